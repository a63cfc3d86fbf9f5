/* SPDX-License-Identifier: BSD-2-Clause */
/* The cost file of `triptych run --cost`: published prices, and figures that stand beside them. Its
 * form is described in scenarios/README.md. */
#ifndef TRIPTYCH_CLI_RUN_COST_H
#define TRIPTYCH_CLI_RUN_COST_H

#include "cli/run.h"

/* What one of a counter takes, for somebody. */
struct run_price {
	char group[64], counter[64], what[RUN_TEXT_LEN], source[RUN_TEXT_LEN];
	bool known;
	double each_ns; /* 0 if it isn't */
};

struct run_cost {
	char path[256];
	struct run_price price[RUN_MAX];
	struct run_published published[RUN_MAX];
	unsigned int nr_prices, nr_published;
};

/* The sum over a group. */
struct run_bill {
	bool known; /* each price of which there is any */
	double ns;  /* the known part */
	uint64_t items;
};

/* 0 and *out, to be freed; -EINVAL with @err naming file, line, value and rule; -ENOMEM; or an
 * error of input_open() or input_read(). */
int run_cost_read(struct run_cost **out, const char *path, char err[INPUT_ERR_LEN]);
/* The group of price @first, if that is its first one and there is anything of it. */
bool run_cost_group(const struct run *r, unsigned int first, struct run_bill *bill);
uint64_t run_cost_count(const struct run *r, unsigned int price);
/* "260ns", "8us", "1.5ms", "2s". False: it is no time. */
bool run_duration(const char *text, double *ns);

#endif
