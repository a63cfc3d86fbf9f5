/* SPDX-License-Identifier: BSD-2-Clause */
/* Pictures of one run: what `triptych bench --save` wrote, beside what others cost. */
#ifndef BENCH_PLOT_H
#define BENCH_PLOT_H

#include "bench/json.h"

#define PLOT_PEERS   16
#define PLOT_FIGURES 128
#define PLOT_PANELS  8
#define PLOT_NAME    48

/* What somebody else's code costs, as bench/peers has it. Negative: not measured. */
struct plot_figure {
	unsigned int peer;
	char op[PLOT_NAME]; /* our operation of the same work, or our line of the table "memory" */
	double instr, ns, bytes;
};

struct plot {
	struct json *run;
	unsigned int nr_peers, nr_figures, nr_linux, nr_panels;
	struct plot_peer {
		char key[16], name[PLOT_NAME];
	} peer[PLOT_PEERS];
	struct plot_figure figure[PLOT_FIGURES];
	/* Our operation, and the row of the run that is the kernel's own of the like. */
	struct plot_linux {
		char op[PLOT_NAME], row[PLOT_NAME];
	} linux_row[PLOT_PEERS];
	/* Operations that are shown among all others, and what they do in a few words. */
	struct plot_panel {
		char op[PLOT_NAME], title[PLOT_NAME];
	} panel[PLOT_PANELS];
	char why[256]; /* what was wrong */
};

/* @peers NULL: nobody else. False, and p->why: nothing was read. plot_free() in any case. */
bool plot_read(struct plot *p, const char *run, const char *peers);
void plot_free(struct plot *p);

/* Writes NAME.svg into @dir, for each picture that the run has something for; says on standard
 * output which. False, and p->why: one could not be written. */
bool plot_draw(struct plot *p, const char *dir);

/* The row of @op, EPT's where there are two; NULL: there is none. */
const struct json *plot_row(const struct plot *p, const char *op);
/* What the peer @key costs; NULL: nobody knows. */
const struct plot_figure *plot_figure(const struct plot *p, const char *key, const char *op);

#endif
