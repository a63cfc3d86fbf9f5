/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The joint between a model of the TDX module and the processor that it runs on: two small tables
 * of functions. What a table entry means is never decided here; each side decodes by itself.
 *
 *	processor --private_walk, td_entry, data--> module
 *	module    --invalidate--------------------> processor
 */
#ifndef TDX_PORT_H
#define TDX_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most tables that one walk can visit: a 5-level tree. */
#define TDX_PORT_MAX_TABLES 5

/* The TD that a logical processor is inside of (SEAM non-root mode). */
struct tdx_port_td {
	uint64_t
		tdr; /* HPA of the TDR page without key id: names the TD and tags its TLB entries */
	uint64_t vcpu;	      /* HPA of the TDVPR page */
	uint64_t shared_eptp; /* EPTP of the shared EPT as last written to the vCPU; 0 = none */
	uint16_t hkid;	      /* the TD's private key id */
	uint8_t shared_bit;   /* GPA bit that selects the shared EPT: 47 or 51 */
	uint8_t eptp_levels;  /* 4 or 5: levels of the Secure EPT */
};

/* What the Secure EPT says of one private GPA. */
struct tdx_port_walk {
	bool machine_check; /* a table's line is poisoned: nothing else is filled but nr_tables */
	bool present;	   /* a usable leaf was reached; otherwise the access is an EPT violation */
	uint8_t level;	   /* level where the walk stopped: 0 = 4 KiB, 1 = 2 MiB, 2 = 1 GiB, 3, 4 */
	uint8_t rwx;	   /* bits 2:0 of the entry where it stopped: R 1, W 2, X 4 */
	uint64_t hpa;	   /* if present: HPA of the first byte of the leaf, without key id */
	uint8_t nr_tables; /* tables visited, root first */
	uint64_t tables[TDX_PORT_MAX_TABLES]; /* their HPAs: what a paging-structure cache may hold
					       */
};

/* What became of a load or store that the processor asked about. */
enum tdx_port_data {
	TDX_PORT_BYTES,		/* the bytes that are there are the ones: go on */
	TDX_PORT_DONE,		/* done: the buffer is filled, or the bytes are stored */
	TDX_PORT_MACHINE_CHECK, /* not performed: poison */
};

/* What the processor asks of the module. All functions may be called from the thread of that LP. */
struct tdx_port_module {
	/* Is LP @lp inside a TD, and which? Returns false (and leaves *td alone) if not. */
	bool (*td_entry)(void *module, unsigned int lp, struct tdx_port_td *td);
	/*
	 * Walk private @gpa (shared bit clear) in the TD that @lp is inside of. Returns 0 and fills
	 * *walk, or -ENOENT if @lp is in no TD. Never blocks and takes no module lock: it is the
	 * hardware's walk.
	 */
	int (*private_walk)(void *module, unsigned int lp, uint64_t gpa,
			    struct tdx_port_walk *walk);
	/*
	 * A guest's load or store of @len bytes at @hpa, inside one page, through a private or a
	 * shared translation. @buf NULL: the bytes are only touched. What memory's protection has
	 * to say about it.
	 */
	enum tdx_port_data (*data)(void *module, unsigned int lp, uint64_t hpa, bool is_private,
				   void *buf, size_t len, bool write);
};

/* What the module asks of the processor. Called from the thread that runs the SEAMCALL or TD exit.
 */
struct tdx_port_processor {
	/*
	 * INVEPT on LP @lp: forget every cached translation of the TD named by @tdr, private and
	 * shared; @tdr 0 means of every TD.
	 */
	void (*invalidate)(void *processor, unsigned int lp, uint64_t tdr);
};

#endif
