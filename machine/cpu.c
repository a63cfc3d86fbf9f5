// SPDX-License-Identifier: BSD-2-Clause
/*
 * One access of a logical processor: which tables it goes through, what the TLB already knows, the
 * walk with its A and D updates, and what is cached of it. What an entry means is the formats'
 * business, whether a cached one is stale is the judge's.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "machine/internal.h"

/* An access on its way through the tables. */
struct walker {
	struct machine_cpu *cpu;
	const struct space *space;
	uint64_t gpa;
	unsigned int kind, need;
	uint64_t table; /* the next one to read */
	unsigned int level;
	unsigned int rights;
	uint64_t path_at;
};

/* An entry as read, or after its flags were set. */
struct visit {
	uint64_t *ptr;
	uint64_t hpa, entry, read_at;
	struct decoded d;
};

static struct cached cached_make(const struct space *space, uint64_t gpa, unsigned int level,
				 bool table, uint64_t hpa)
{
	return (struct cached){.id = space->id,
			       .tag = space->tag,
			       .root = space->root,
			       .gpa = level_base(gpa, level),
			       .hpa = hpa,
			       .level = level,
			       .table = table};
}

static void cache(struct machine_cpu *cpu, const struct cached *entry)
{
	cpu->counters.evictions += tlb_insert(&cpu->tlb, entry);
}

static void fill_leaf(struct machine_result *out, const struct cached *leaf)
{
	out->outcome = MACHINE_OK;
	out->hpa = leaf->hpa + (out->gpa - leaf->gpa);
	out->level = leaf->level;
	out->readable = leaf->rights & RIGHT_R;
	out->writable = leaf->rights & RIGHT_W;
	out->executable = leaf->rights & RIGHT_X;
	out->dirty = leaf->dirty;
	out->ipat = leaf->ipat;
	out->memtype = leaf->memtype;
}

/* The cached leaf of @gpa at any level, if the judge lets it be used. */
static struct cached *find_leaf(struct machine_cpu *cpu, const struct space *space, uint64_t gpa)
{
	for (unsigned int level = 1; level <= 3; level++) {
		struct cached *e = tlb_find(&cpu->tlb, space->id, gpa, level, false);

		if (e && judge_use(cpu, e, gpa))
			return e;
	}
	return NULL;
}

/*
 * A cached translation answers if it has the rights and need not set D; if not, it is dropped, and
 * the tables are asked (SDM "Invalidation of cached translations", APM 15.16.1).
 */
static bool tlb_answers(struct machine_cpu *cpu, const struct space *space, unsigned int need,
			struct machine_result *out)
{
	struct cached *e = find_leaf(cpu, space, out->gpa);

	if (!e)
		return false;
	if (need & ~e->rights || (need & RIGHT_W && !e->dirty)) {
		tlb_drop(&cpu->tlb, e);
		return false;
	}
	fill_leaf(out, e);
	out->tlb_hit = true;
	cpu->counters.tlb_hits++;
	return true;
}

static void check_root(struct machine_cpu *cpu, const struct space *space, uint64_t gpa)
{
	struct machine_report report = {.kind = MACHINE_REPORT_FREED_TABLE,
					.cpu = cpu->id,
					.tag = space->tag,
					.gpa = gpa,
					.hpa = space->root,
					.cached_at = cpu->loaded_at,
					.reason = "the loaded root was freed"};

	report.broken_at = mem_freed_at(cpu->machine, space->root);
	if (space->id.kind == MACHINE_ROOT_TD || report.broken_at <= cpu->loaded_at)
		return;
	judge_report(cpu->machine, &report);
	cpu->loaded_at = report.broken_at;
}

/* Begin at the lowest table that a paging-structure cache entry leads to, or else at the root. */
static void walk_begin(struct walker *w)
{
	struct machine_cpu *cpu = w->cpu;

	cpu->counters.walks++;
	for (unsigned int level = 2; level <= w->space->levels; level++) {
		struct cached *e = tlb_find(&cpu->tlb, w->space->id, w->gpa, level, true);

		if (!e || !judge_use(cpu, e, w->gpa))
			continue;
		cpu->counters.table_hits++;
		w->table = e->hpa;
		w->level = level - 1;
		w->rights = e->rights;
		w->path_at = e->path_at;
		return;
	}
	check_root(cpu, w->space, w->gpa);
	w->table = w->space->root;
	w->level = w->space->levels;
	w->rights = RIGHT_ALL;
	w->path_at = UINT64_MAX;
}

/* Read the entry of the walk's GPA; false if its table is in no memory. */
static bool walk_read(struct walker *w, struct visit *v)
{
	struct machine *machine = w->cpu->machine;

	v->hpa = w->table + (w->gpa >> level_shift(w->level) & 511) * 8;
	v->ptr = machine_mem_ptr(machine, v->hpa);
	if (!v->ptr) {
		judge_target(w->cpu, w->space, w->gpa, w->table, w->level + 1, true);
		return false;
	}
	/* No free may fall between the time and the entry, or a reused frame would be blamed. */
	do {
		v->read_at = atomic_load(&machine->clock);
		v->entry = __atomic_load_n(v->ptr, __ATOMIC_SEQ_CST);
	} while (v->read_at != atomic_load(&machine->clock));
	w->cpu->counters.entries_read++;
	w->space->format->decode(&machine->config, v->entry, w->level, &v->d);
	return true;
}

enum marked {
	MARKED,	     /* the flags are set, or were already */
	MARK_LOST,   /* the entry has changed: read it again */
	MARK_NO_LOG, /* the page-modification log is full: nothing was set */
};

/*
 * Set A, and D in a leaf that is written, in the very entry that was read: if it has changed since,
 * the update is not made. So an entry taken away is never brought back.
 */
static enum marked walk_mark(struct walker *w, struct visit *v)
{
	const struct format *format = w->space->format;
	struct machine_counters *counters = &w->cpu->counters;
	uint64_t want = v->entry | format->accessed, seen = v->entry;

	if (!w->space->ad)
		return MARKED;
	if (v->d.kind == MACHINE_ENTRY_LEAF && w->need & RIGHT_W)
		want |= format->dirty;
	if (want == v->entry)
		return MARKED;
	if (pml_is_full(w->cpu, w->space))
		return MARK_NO_LOG;
	if (!__atomic_compare_exchange_n(v->ptr, &seen, want, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST)) {
		counters->ad_races++;
		return MARK_LOST;
	}
	counters->accessed_set += !!(~v->entry & want & format->accessed);
	counters->dirty_set += !!(~v->entry & want & format->dirty);
	if (~v->entry & want & format->dirty)
		pml_log(w->cpu, w->space, w->gpa);
	v->entry = want;
	return MARKED;
}

static void walk_cache(struct walker *w, const struct visit *v, struct machine_result *out)
{
	bool leaf = v->d.kind == MACHINE_ENTRY_LEAF;
	struct cached e = cached_make(w->space, w->gpa, w->level, !leaf, v->d.target);

	e.read_at = v->read_at;
	e.path_at = w->path_at;
	e.rights = w->rights;
	e.memtype = v->d.memtype;
	e.ipat = v->d.ipat;
	e.dirty = !w->space->ad || v->entry & w->space->format->dirty;
	if (leaf) {
		judge_target(w->cpu, w->space, w->gpa, e.hpa + level_base(w->gpa - e.gpa, 1),
			     w->level, false);
		fill_leaf(out, &e);
	}
	cache(w->cpu, &e);
}

/* One level down. Returns true when the walk has ended, one way or the other. */
static bool walk_step(struct walker *w, struct machine_result *out)
{
	struct visit v;
	unsigned int rights;
	enum marked marked;
	bool leaf;

	do {
		if (!walk_read(w, &v)) {
			out->outcome = MACHINE_NO_MEMORY;
			return true;
		}
		out->entry = v.entry;
		out->entry_hpa = v.hpa;
		out->level = w->level;
		rights = w->rights & v.d.rights;
		leaf = v.d.kind == MACHINE_ENTRY_LEAF;
		if ((!leaf && v.d.kind != MACHINE_ENTRY_TABLE) || (leaf && w->need & ~rights)) {
			w->space->format->fault(&w->cpu->machine->config, w->kind, w->space->ad,
						v.d.kind, rights, out);
			return true;
		}
		marked = walk_mark(w, &v);
	} while (marked == MARK_LOST);
	if (marked == MARK_NO_LOG) {
		out->outcome = MACHINE_PML_FULL;
		return true;
	}
	out->entry = v.entry;
	w->rights = rights;
	w->path_at = v.read_at < w->path_at ? v.read_at : w->path_at;
	walk_cache(w, &v, out);
	w->table = v.d.target;
	w->level--;
	return leaf;
}

/* Tables of a private walk that the paging-structure caches know: reported if they are gone. */
static uint64_t private_tables(struct machine_cpu *cpu, const struct space *space, uint64_t gpa,
			       const struct tdx_port_walk *walk, uint64_t now)
{
	uint64_t path_at = now;

	for (unsigned int i = 1; i < walk->nr_tables; i++) {
		struct cached e =
			cached_make(space, gpa, space->levels + 1 - i, true, walk->tables[i]);
		struct cached *old = tlb_find(&cpu->tlb, space->id, gpa, e.level, true);

		if (old && old->hpa == e.hpa) {
			path_at = old->path_at < path_at ? old->path_at : path_at;
			continue;
		}
		e.rights = RIGHT_ALL;
		e.read_at = now;
		e.path_at = path_at;
		cache(cpu, &e);
	}
	return path_at;
}

/*
 * The module's walk is always from the root; a cached table entry that is stale is still reported,
 * since hardware would have begun there.
 */
static void walk_private(struct machine_cpu *cpu, const struct space *space, unsigned int kind,
			 struct machine_result *out)
{
	struct machine *machine = cpu->machine;
	unsigned int need = ept_format.need(kind, false);
	struct tdx_port_walk walk = {0};
	struct cached leaf;
	uint64_t now;

	cpu->counters.walks++;
	for (unsigned int level = 2; level <= space->levels; level++) {
		struct cached *table = tlb_find(&cpu->tlb, space->id, out->gpa, level, true);

		if (table)
			judge_use(cpu, table, out->gpa);
	}
	do {
		now = atomic_load(&machine->clock);
		if (machine->module_ops->private_walk(machine->module, cpu->id, out->gpa, &walk)) {
			out->outcome = MACHINE_NO_ROOT;
			return;
		}
	} while (now != atomic_load(&machine->clock));
	if (walk.machine_check) {
		out->outcome = MACHINE_CHECK;
		return;
	}
	out->level = walk.level + 1;
	if (!walk.present || need & ~(unsigned int)walk.rwx) {
		ept_format.fault(&machine->config, kind, false,
				 walk.present ? MACHINE_ENTRY_LEAF : MACHINE_ENTRY_NONE,
				 walk.present ? walk.rwx : 0, out);
		return;
	}
	leaf = cached_make(space, out->gpa, walk.level + 1, false, walk.hpa);
	leaf.read_at = now;
	leaf.path_at = private_tables(cpu, space, out->gpa, &walk, now);
	leaf.rights = walk.rwx | RIGHT_U;
	leaf.memtype = 6; /* Secure EPT leaves are write-back and ignore PAT */
	leaf.ipat = true;
	leaf.dirty = true;
	judge_target(cpu, space, out->gpa, walk.hpa + level_base(out->gpa - leaf.gpa, 1),
		     leaf.level, false);
	fill_leaf(out, &leaf);
	cache(cpu, &leaf);
}

/*
 * The spaces of a TD: the shared bit chooses the tree, and is part of the GPA that the shared one
 * is walked with. Shared and Secure EPT have their levels in common; neither has A/D.
 */
static bool td_space(struct machine_cpu *cpu, struct space *space, unsigned int kind,
		     struct machine_result *out)
{
	struct machine *machine = cpu->machine;
	struct tdx_port_td td;

	if (!machine->module_ops->td_entry(machine->module, cpu->id, &td)) {
		out->outcome = MACHINE_NO_ROOT;
		return false;
	}
	*space = (struct space){
		.id = {MACHINE_ROOT_TD, td.tdr}, .tag = td.tdr, .levels = td.eptp_levels};
	out->private_gpa = !(out->gpa >> td.shared_bit);
	if (out->private_gpa)
		return true;
	space->format = &ept_format;
	space->root = td.shared_eptp & ADDRESS_MASK;
	if (out->gpa >> td.shared_bit == 1 && space->root)
		return true;
	/* Above the shared bit, or with no shared EPT, nothing can be present. */
	ept_format.fault(&machine->config, kind, false, MACHINE_ENTRY_NONE, 0, out);
	return false;
}

static bool vm_space(struct machine_cpu *cpu, struct space *space, unsigned int kind,
		     struct machine_result *out)
{
	const struct machine_config *config = &cpu->machine->config;

	*space = cpu->space;
	if (!(out->gpa >> (level_shift(space->levels) + 9)))
		return true;
	/* 4-level EPT cannot translate bits 51:48: an EPT violation. 4-level NPT would ignore them.
	 */
	if (space->id.kind == MACHINE_ROOT_EPT)
		space->format->fault(config, kind, space->ad, MACHINE_ENTRY_NONE, 0, out);
	else
		out->outcome = MACHINE_BAD_GPA;
	return false;
}

/* What @out->gpa is translated by. False: it cannot be, and *out says why. */
static bool find_space(struct machine_cpu *cpu, struct space *space, unsigned int kind,
		       struct machine_result *out)
{
	bool td = cpu->root.kind == MACHINE_ROOT_TD;

	if (cpu->root.kind == MACHINE_ROOT_NONE) {
		out->outcome = MACHINE_NO_ROOT;
		return false;
	}
	if (out->gpa >> (td ? PA_BITS : cpu->machine->config.maxphyaddr)) {
		out->outcome = MACHINE_BAD_GPA;
		return false;
	}
	return td ? td_space(cpu, space, kind, out) : vm_space(cpu, space, kind, out);
}

/*
 * An EPT violation or #NPF drops what is cached for its GPA, tables too (SDM "Operations that
 * Invalidate Cached Mappings"; APM 5.5.2 on faults).
 */
static void drop_faulting(struct machine_cpu *cpu, const struct space *space, uint64_t gpa)
{
	cpu->counters.flushes[MACHINE_FLUSH_FAULT]++;
	cpu->counters.flushed += tlb_drop_gpa(&cpu->tlb, space->id, gpa);
}

static void access_tables(struct machine_cpu *cpu, unsigned int kind, struct machine_result *out)
{
	struct space space = {0};
	struct walker w = {.cpu = cpu, .space = &space, .gpa = out->gpa, .kind = kind};

	if (!find_space(cpu, &space, kind, out))
		return;
	w.need = (space.format ? space.format : &ept_format)->need(kind, space.ad);
	if (tlb_answers(cpu, &space, w.need, out))
		return;
	if (!space.format) {
		walk_private(cpu, &space, kind, out);
	} else {
		walk_begin(&w);
		while (!walk_step(&w, out))
			;
	}
	if (out->outcome == MACHINE_EPT_VIOLATION || out->outcome == MACHINE_NPF)
		drop_faulting(cpu, &space, out->gpa);
}

/* Under cpu->lock. */
static void access_locked(struct machine_cpu *cpu, uint64_t gpa, unsigned int kind,
			  struct machine_result *out)
{
	*out = (struct machine_result){.gpa = gpa};
	cpu->counters.accesses++;
	access_tables(cpu, kind, out);
	if (out->outcome != MACHINE_OK)
		cpu->counters.faults[out->outcome]++;
}

static bool kind_valid(unsigned int kind)
{
	unsigned int rwx = kind & (MACHINE_READ | MACHINE_WRITE | MACHINE_EXEC);

	if (kind >= MACHINE_NO_LINEAR << 1 || !rwx)
		return false;
	if (rwx & MACHINE_EXEC)
		return rwx == MACHINE_EXEC && !(kind & MACHINE_GUEST_WALK);
	return true;
}

/* ---- guest mode ----------------------------------------------------------------------------- */

void machine_cpu_enter_guest(struct machine_cpu *cpu)
{
	atomic_store(&cpu->owner, pthread_self());
	atomic_store(&cpu->kick, false); /* an earlier stay's */
	atomic_store(&cpu->entered, true);
	atomic_fetch_add(&cpu->stay, 1);
}

void machine_cpu_leave_guest(struct machine_cpu *cpu)
{
	if (!atomic_load(&cpu->entered))
		return; /* a kick already did */
	atomic_store(&cpu->entered, false);
	atomic_fetch_add(&cpu->stay, 1);
}

bool machine_cpu_in_guest(const struct machine_cpu *cpu)
{
	return atomic_load(&cpu->stay) & 1;
}

/* Take the LP's lock for one access; false if the LP was kicked out instead. */
static bool access_begin(struct machine_cpu *cpu, uint64_t gpa, struct machine_result *out)
{
	bool entered = atomic_load(&cpu->entered);

	if (!entered)
		atomic_fetch_add(&cpu->stay, 1);
	pthread_mutex_lock(&cpu->lock);
	if (!entered || !atomic_load(&cpu->kick))
		return true;
	*out = (struct machine_result){.gpa = gpa, .outcome = MACHINE_KICKED};
	cpu->counters.faults[MACHINE_KICKED]++;
	cpu->counters.kicks++;
	pthread_mutex_unlock(&cpu->lock);
	machine_cpu_leave_guest(cpu);
	return false;
}

static void access_end(struct machine_cpu *cpu)
{
	pthread_mutex_unlock(&cpu->lock);
	if (!atomic_load(&cpu->entered))
		atomic_fetch_add(&cpu->stay, 1);
}

static bool mine(struct machine_cpu *cpu)
{
	return atomic_load(&cpu->entered) &&
	       pthread_equal(atomic_load(&cpu->owner), pthread_self());
}

static void kick_one(struct machine_cpu *cpu)
{
	uint64_t stay = atomic_load(&cpu->stay);

	if (!(stay & 1))
		return;
	atomic_store(&cpu->kick, true);
	while (atomic_load(&cpu->stay) == stay)
		sched_yield();
}

int machine_kick(struct machine *machine, struct machine_cpu *cpu)
{
	unsigned int first = cpu ? cpu->id : 0, end = cpu ? cpu->id + 1 : machine->config.nr_cpus;

	for (unsigned int i = first; i < end; i++)
		if (mine(&machine->cpus[i]))
			return -EDEADLK;
	for (unsigned int i = first; i < end; i++)
		kick_one(&machine->cpus[i]);
	return 0;
}

/* ---- the public accesses -------------------------------------------------------------------- */

/* What the module says of a load or store of memory that the access reached. True: it is done. */
static bool ask_module(struct machine_cpu *cpu, void *buf, size_t len, bool write,
		       struct machine_result *out)
{
	const struct tdx_port_module *ops = cpu->machine->module_ops;

	if (!ops || !ops->data)
		return false;
	switch (ops->data(cpu->machine->module, cpu->id, out->hpa, out->private_gpa, buf, len,
			  write)) {
	case TDX_PORT_BYTES:
		return false;
	case TDX_PORT_DONE:
		return true;
	default:
		out->outcome = MACHINE_CHECK;
		cpu->counters.faults[MACHINE_CHECK]++;
		return true;
	}
}

int machine_access(struct machine_cpu *cpu, uint64_t gpa, unsigned int kind,
		   struct machine_result *out)
{
	if (!kind_valid(kind))
		return -EINVAL;
	if (!access_begin(cpu, gpa, out))
		return out->outcome;
	access_locked(cpu, gpa, kind, out);
	if (out->outcome == MACHINE_OK && kind & (MACHINE_READ | MACHINE_EXEC))
		ask_module(cpu, NULL, 1, false, out);
	if (out->outcome == MACHINE_OK && kind & MACHINE_WRITE)
		ask_module(cpu, NULL, 1, true, out);
	access_end(cpu);
	return out->outcome;
}

/* Guests race on their own memory as they please; so the copy is of single atomic loads and stores.
 */
static void copy_bytes(uint8_t *guest, uint8_t *buf, size_t len, bool write)
{
	uint64_t word;

	while (len) {
		size_t n = (uintptr_t)guest % 8 || len < 8 ? 1 : 8;

		if (n == 1 && write) {
			__atomic_store_n(guest, *buf, __ATOMIC_RELAXED);
		} else if (n == 1) {
			*buf = __atomic_load_n(guest, __ATOMIC_RELAXED);
		} else if (write) {
			memcpy(&word, buf, 8);
			__atomic_store_n((uint64_t *)guest, word, __ATOMIC_RELAXED);
		} else {
			word = __atomic_load_n((uint64_t *)guest, __ATOMIC_RELAXED);
			memcpy(buf, &word, 8);
		}
		guest += n;
		buf += n;
		len -= n;
	}
}

static void access_bytes(struct machine_cpu *cpu, uint64_t gpa, uint8_t *buf, size_t len,
			 bool write, struct machine_result *out)
{
	if (!access_begin(cpu, gpa, out))
		return;
	access_locked(cpu, gpa, write ? MACHINE_WRITE : MACHINE_READ, out);
	if (out->outcome == MACHINE_OK && !ask_module(cpu, buf, len, write, out)) {
		uint8_t *guest = machine_mem_ptr(cpu->machine, out->hpa);

		if (guest)
			copy_bytes(guest, buf, len, write);
		else
			out->outcome = MACHINE_NO_MEMORY;
	}
	access_end(cpu);
}

static int copy_pages(struct machine_cpu *cpu, uint64_t gpa, uint8_t *buf, size_t len, bool write,
		      struct machine_result *out)
{
	*out = (struct machine_result){.gpa = gpa};
	while (len) {
		size_t n = PAGE_BYTES - (gpa & (PAGE_BYTES - 1));

		n = n < len ? n : len;
		access_bytes(cpu, gpa, buf, n, write, out);
		if (out->outcome != MACHINE_OK)
			break;
		gpa += n;
		buf += n;
		len -= n;
	}
	return out->outcome;
}

int machine_read(struct machine_cpu *cpu, uint64_t gpa, void *buf, size_t len,
		 struct machine_result *out)
{
	return copy_pages(cpu, gpa, buf, len, false, out);
}

int machine_write(struct machine_cpu *cpu, uint64_t gpa, const void *buf, size_t len,
		  struct machine_result *out)
{
	return copy_pages(cpu, gpa, (uint8_t *)buf, len, true, out);
}

/* ---- roots ---------------------------------------------------------------------------------- */

int machine_cpu_load(struct machine_cpu *cpu, const struct machine_root *root)
{
	struct machine *machine = cpu->machine;
	struct space space = {0};
	int ret = 0;

	switch (root->kind) {
	case MACHINE_ROOT_NONE:
		break;
	case MACHINE_ROOT_TD:
		ret = machine->module_ops ? 0 : -ENODEV;
		break;
	default:
		ret = root_space(machine, root, &space);
		break;
	}
	if (ret)
		return ret;
	pthread_mutex_lock(&cpu->lock);
	cpu->root = *root;
	cpu->space = space;
	cpu->loaded_at = atomic_load(&machine->clock);
	pthread_mutex_unlock(&cpu->lock);
	return 0;
}
