// SPDX-License-Identifier: BSD-2-Clause
/* Whose doing each event of a trace is. Works from order, tasks and addresses alone; never looks at
 * whether an outcome is right. */
#include "cli/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* W of a present word, in every format that is traced. */
#define WORD_WRITE (1ull << 1)

/* What a task was last seen to begin; words it removes belong to it. */
enum cause { CAUSE_NONE, CAUSE_FAULT, CAUSE_ZAP_ALL, CAUSE_HOST };

struct task {
	int32_t pid;
	uint32_t fault; /* index into trace.faults, or TRACE_NONE */
	enum cause cause;
	uint32_t cause_event;
	uint64_t first_gfn; /* of the first word a host event removed; UINT64_MAX: none yet */
	uint32_t new_page;  /* its last get_page that nothing has claimed yet, or TRACE_NONE */
};

struct grouping {
	struct trace *t;
	struct task *tasks;
	size_t nr_tasks;
	/* Fault that owns each install, by position in trace.installs before they are sorted by
	 * fault. */
	uint32_t *install_fault;
	bool logging; /* a dirty log was seen at work, and not its end */
};

/* The task, which is added if it was not seen before. */
static struct task *task_of(struct grouping *g, int32_t pid)
{
	struct task *k = g->tasks;

	while (k < g->tasks + g->nr_tasks && k->pid != pid)
		k++;
	if (k == g->tasks + g->nr_tasks) {
		*k = (struct task){pid, TRACE_NONE, CAUSE_NONE, TRACE_NONE, UINT64_MAX, TRACE_NONE};
		g->nr_tasks++;
	}
	return k;
}

static void place(struct grouping *g, uint32_t i, enum trace_attr attr, uint32_t owner)
{
	if (attr == TRACE_ATTR_PROTECT || attr == TRACE_ATTR_SPLIT)
		g->logging = true;
	else if (attr == TRACE_ATTR_RECOVER)
		g->logging = false;
	g->t->attr[i] = (uint8_t)attr;
	g->t->owner[i] = owner;
}

static struct trace_fault *fault_of(struct grouping *g, const struct task *k)
{
	return k->fault == TRACE_NONE ? NULL : &g->t->faults[k->fault];
}

static bool covers(uint64_t gfn, unsigned int level, uint64_t gpa)
{
	unsigned int shift = 9 * (level - 1);

	return gfn >> shift == gpa >> 12 >> shift;
}

static void begin_fault(struct grouping *g, struct task *k, uint32_t i)
{
	struct trace *t = g->t;
	struct trace_fault *f = &t->faults[t->nr_faults];

	*f = (struct trace_fault){.event = i,
				  .leaf = TRACE_NONE,
				  .mark = TRACE_NONE,
				  .mmio = TRACE_NONE,
				  .fast = TRACE_NONE,
				  .requested = TRACE_NONE,
				  .inner_unmap = TRACE_NONE,
				  .zapped = TRACE_NONE,
				  .as_source = TRACE_AS_DEFAULT,
				  .logged = g->logging};
	t->fault_of[i] = t->nr_faults;
	k->fault = t->nr_faults++;
	k->cause = CAUSE_FAULT;
	k->cause_event = i;
	place(g, i, TRACE_ATTR_FAULT, i);
}

static void claim_page(struct grouping *g, struct task *k, enum trace_attr attr, uint32_t owner)
{
	if (k->new_page != TRACE_NONE)
		place(g, k->new_page, attr, owner);
	k->new_page = TRACE_NONE;
}

static void group_install(struct grouping *g, struct task *k, uint32_t i)
{
	struct trace *t = g->t;
	const struct trace_event *ev = &t->events[i];
	struct trace_fault *f = fault_of(g, k);
	enum trace_word what = trace_word_class(ev->change.new_word, ev->level);

	if (!f) {
		place(g, i, TRACE_ATTR_NO_FAULT, TRACE_NONE);
		return;
	}
	if (!covers(ev->change.gfn, ev->level, t->events[f->event].fault.gpa)) {
		place(g, i, TRACE_ATTR_WRONG_ADDRESS, f->event);
		return;
	}
	place(g, i, TRACE_ATTR_INSTALL, f->event);
	claim_page(g, k, TRACE_ATTR_FAULT_DETAIL, f->event);
	g->install_fault[t->nr_installs] = k->fault;
	t->installs[t->nr_installs++] = i;
	f->nr_installs++;
	f->as_id = (uint8_t)ev->change.as_id;
	f->as_source = TRACE_AS_OWN;
	if (what != TRACE_WORD_TABLE)
		f->leaf = i;
}

/* The range of a notifier event becomes a guest one when the first word it removed shows up. */
static void confirm_host(struct grouping *g, struct task *k, uint32_t zap)
{
	struct trace *t = g->t;
	struct trace_fault *f = fault_of(g, k);
	const struct trace_event *z = &t->events[zap];

	if (t->attr[k->cause_event] != TRACE_ATTR_HOST_OTHER)
		return;
	place(g, k->cause_event, TRACE_ATTR_HOST, k->cause_event);
	if (!f || f->nr_installs || f->nr_mmio || f->inner_unmap != TRACE_NONE)
		return;
	if (!covers(z->change.gfn, z->level, t->events[f->event].fault.gpa))
		return;
	f->inner_unmap = k->cause_event;
	place(g, k->cause_event, TRACE_ATTR_HOST_INSIDE, f->event);
}

/* A notifier removes leaves of its own range, never tables: anything else the task removes is of
 * another cause. */
static bool host_removes(const struct grouping *g, const struct task *k, uint32_t i)
{
	const struct trace_event *ev = &g->t->events[i], *host = &g->t->events[k->cause_event];
	uint64_t pages = (host->hva.end - host->hva.start + 0xfff) >> 12, size = 1;

	if (ev->kind != TRACE_SPTE_CHANGED ||
	    trace_word_class(ev->change.old_word, ev->level) != TRACE_WORD_LEAF)
		return false;
	/* The words a notifier removes come in the order of their addresses, so a span can be told
	 * by the first. */
	size <<= 9 * (ev->level - 1);
	return k->first_gfn == UINT64_MAX ||
	       (ev->change.gfn >= k->first_gfn && ev->change.gfn - k->first_gfn < pages + size);
}

/* Linux before 6.2 removes a huge leaf of which a fault maps a part, and links a table after. */
static bool fault_removes(struct grouping *g, const struct task *k, uint32_t i)
{
	const struct trace_event *ev = &g->t->events[i];
	const struct trace_fault *f = fault_of(g, k);

	return k->cause == CAUSE_FAULT && f && !f->nr_installs && !f->nr_mmio &&
	       ev->kind == TRACE_SPTE_CHANGED && ev->level > 1 &&
	       trace_word_class(ev->change.old_word, ev->level) == TRACE_WORD_LEAF &&
	       covers(ev->change.gfn, ev->level, g->t->events[f->event].fault.gpa);
}

static void group_removal(struct grouping *g, struct task *k, uint32_t i)
{
	if (fault_removes(g, k, i)) {
		fault_of(g, k)->zapped = i;
		place(g, i, TRACE_ATTR_FAULT_ZAP, fault_of(g, k)->event);
		return;
	}
	if (k->cause == CAUSE_HOST && !host_removes(g, k, i))
		k->cause = CAUSE_NONE;
	if (k->cause == CAUSE_HOST && k->first_gfn == UINT64_MAX)
		k->first_gfn = g->t->events[i].change.gfn;
	if (k->cause == CAUSE_ZAP_ALL) {
		place(g, i, TRACE_ATTR_ZAP_ALL_ZAP, k->cause_event);
	} else if (k->cause == CAUSE_HOST) {
		confirm_host(g, k, i);
		place(g, i, TRACE_ATTR_HOST_ZAP, k->cause_event);
	} else {
		place(g, i, TRACE_ATTR_EXIT_ZAP, TRACE_NONE);
	}
}

/* Is event @i, which makes a huge leaf a table, told of by kvm_mmu_split_huge_page? Then it is a
 * dirty log's, and no fault's. */
static bool is_told(const struct trace *t, uint32_t i)
{
	for (uint32_t n = i + 1; n < t->nr_events; n++)
		if (t->events[n].pid == t->events[i].pid)
			return t->events[n].kind == TRACE_SPLIT_HUGE;
	return false;
}

/* Does a fault's slow path change a leaf in place? It gives write access, and never takes it. */
static bool fault_changes(struct grouping *g, const struct task *k, uint32_t i, enum trace_word is)
{
	const struct trace_event *ev = &g->t->events[i];
	const struct trace_fault *f = fault_of(g, k);

	if (k->cause != CAUSE_FAULT || !f || f->leaf != TRACE_NONE ||
	    (f->fast != TRACE_NONE && g->t->events[f->fast].fast.fixed) ||
	    !covers(ev->change.gfn, ev->level, g->t->events[f->event].fault.gpa))
		return false;
	if (is == TRACE_WORD_TABLE)
		return !is_told(g->t, i);
	return ev->change.new_word & ~ev->change.old_word & WORD_WRITE;
}

static void group_change(struct grouping *g, struct task *k, uint32_t i)
{
	const struct trace_event *ev = &g->t->events[i];
	enum trace_word was = trace_word_class(ev->change.old_word, ev->level);
	enum trace_word is = trace_word_class(ev->change.new_word, ev->level);
	bool gone = is == TRACE_WORD_EMPTY || is == TRACE_WORD_FROZEN;
	bool by_fault =
		was == TRACE_WORD_EMPTY || (was == TRACE_WORD_LEAF && fault_changes(g, k, i, is));

	if (by_fault && !gone) {
		group_install(g, k, i);
	} else if (was == TRACE_WORD_EMPTY || was == TRACE_WORD_FROZEN) {
		place(g, i, gone ? TRACE_ATTR_FREEZE : TRACE_ATTR_ODD_WORD, TRACE_NONE);
	} else if (gone) {
		group_removal(g, k, i);
	} else if (was == TRACE_WORD_TABLE && is == TRACE_WORD_LEAF) {
		place(g, i, TRACE_ATTR_RECOVER, TRACE_NONE);
	} else if (was == TRACE_WORD_LEAF && is == TRACE_WORD_TABLE) {
		place(g, i, TRACE_ATTR_SPLIT, TRACE_NONE);
		claim_page(g, k, TRACE_ATTR_SPLIT, TRACE_NONE);
	} else if (was == is && was == TRACE_WORD_LEAF) {
		place(g, i, TRACE_ATTR_PROTECT, TRACE_NONE);
	} else {
		place(g, i, TRACE_ATTR_ODD_WORD, TRACE_NONE);
	}
}

/* mark, mmio, fast and requested: details of the task's fault, if they are about its page. */
static void group_detail(struct grouping *g, struct task *k, uint32_t i, uint64_t gfn)
{
	struct trace_fault *f = fault_of(g, k);

	if (!f)
		place(g, i, TRACE_ATTR_NO_FAULT, TRACE_NONE);
	else if (gfn != g->t->events[f->event].fault.gpa >> 12)
		place(g, i, TRACE_ATTR_WRONG_ADDRESS, f->event);
	else
		place(g, i, TRACE_ATTR_FAULT_DETAIL, f->event);
	if (g->t->attr[i] != TRACE_ATTR_FAULT_DETAIL)
		return;
	switch (g->t->events[i].kind) {
	case TRACE_MARK_MMIO:
		f->mark = i;
		break;
	case TRACE_MMIO:
		f->mmio = i;
		f->nr_mmio++;
		break;
	case TRACE_FAST_FAULT:
		f->fast = i;
		break;
	default:
		f->requested = i;
		break;
	}
}

static void group_event(struct grouping *g, struct task *k, uint32_t i)
{
	struct trace *t = g->t;
	const struct trace_event *ev = &t->events[i];

	switch ((enum trace_kind)ev->kind) {
	case TRACE_PAGE_FAULT:
		claim_page(g, k, TRACE_ATTR_ROOT, TRACE_NONE);
		begin_fault(g, k, i);
		break;
	case TRACE_SPTE_CHANGED:
		group_change(g, k, i);
		break;
	case TRACE_GET_PAGE:
		claim_page(g, k, TRACE_ATTR_ROOT, TRACE_NONE);
		k->new_page = i;
		place(g, i, TRACE_ATTR_ROOT, TRACE_NONE);
		break;
	case TRACE_PREPARE_ZAP:
		group_removal(g, k, i);
		break;
	case TRACE_ZAP_ALL_FAST:
		t->zap_alls[t->nr_zap_alls++] = i;
		k->cause = CAUSE_ZAP_ALL;
		k->cause_event = i;
		place(g, i, TRACE_ATTR_ZAP_ALL, i);
		break;
	case TRACE_UNMAP_HVA:
	case TRACE_SET_SPTE_HVA:
		k->cause = CAUSE_HOST;
		k->cause_event = i;
		k->first_gfn = UINT64_MAX;
		place(g, i, TRACE_ATTR_HOST_OTHER, i);
		break;
	case TRACE_SPLIT_HUGE:
		place(g, i, TRACE_ATTR_SPLIT, TRACE_NONE);
		break;
	case TRACE_MMIO:
		group_detail(g, k, i, ev->mmio.gpa >> 12);
		break;
	case TRACE_MARK_MMIO:
		group_detail(g, k, i, ev->mark.gfn);
		break;
	case TRACE_FAST_FAULT:
		group_detail(g, k, i, ev->fast.gpa >> 12);
		break;
	case TRACE_SPTE_REQUESTED:
		group_detail(g, k, i, ev->requested.gfn);
		break;
	case TRACE_KINDS:
		break;
	}
}

/* A stable counting sort: installs of one fault come together, in the order recorded. */
static int sort_installs(struct grouping *g)
{
	struct trace *t = g->t;
	uint32_t *sorted = malloc(((size_t)t->nr_installs + 1) * sizeof(*sorted));
	uint32_t at = 0;

	if (!sorted)
		return -ENOMEM;
	for (uint32_t f = 0; f < t->nr_faults; f++) {
		t->faults[f].first = at;
		at += t->faults[f].nr_installs;
		t->faults[f].nr_installs = 0;
	}
	for (uint32_t n = 0; n < t->nr_installs; n++) {
		struct trace_fault *f = &t->faults[g->install_fault[n]];

		sorted[f->first + f->nr_installs++] = t->installs[n];
	}
	free(t->installs);
	t->installs = sorted;
	return 0;
}

static enum trace_outcome outcome_of(const struct trace *t, const struct trace_fault *f)
{
	const struct trace_event *fast = f->fast == TRACE_NONE ? NULL : &t->events[f->fast];

	if (f->leaf != TRACE_NONE) {
		const struct trace_event *leaf = &t->events[f->leaf];

		return trace_word_class(leaf->change.new_word, leaf->level) == TRACE_WORD_MMIO
			       ? TRACE_MMIO_CREATED
			       : TRACE_INSTALLED;
	}
	if (f->inner_unmap != TRACE_NONE)
		return TRACE_COW_RETRY;
	/* NPF code bit 3 (RSVD): the walk met a word with reserved bits, which is how KVM marks
	 * MMIO (APM 2, 15.25.6). */
	if (f->nr_mmio)
		return t->events[f->event].fault.error_code & 8 ? TRACE_MMIO_HIT
								: TRACE_RO_EMULATED;
	if (fast && fast->fast.fixed)
		return TRACE_FAST_FIXED;
	if (fast && fast->fast.spurious)
		return TRACE_FAST_SPURIOUS;
	return TRACE_UNCHANGED;
}

/* The address space of a fault that installed nothing is its vCPU's last known one; SMM is left
 * without a trace line. */
static int finish_faults(struct trace *t)
{
	int32_t *vcpus = NULL;
	uint8_t *last = NULL;
	size_t nr = 0, i;

	for (uint32_t n = 0; n < t->nr_faults; n++) {
		struct trace_fault *f = &t->faults[n];
		int32_t vcpu = t->events[f->event].fault.vcpu;

		if (vcpu < 0)
			vcpu = -1 - t->events[f->event].pid;
		for (i = 0; i < nr && vcpus[i] != vcpu; i++)
			;
		if (i == nr) {
			void *v = realloc(vcpus, (nr + 1) * sizeof(*vcpus));
			void *l = realloc(last, nr + 1);

			vcpus = v ? v : vcpus;
			last = l ? l : last;
			if (!v || !l)
				goto nomem;
			vcpus[nr] = vcpu;
			last[nr++] = UINT8_MAX;
		}
		if (f->as_source != TRACE_AS_OWN && last[i] != UINT8_MAX) {
			f->as_id = last[i];
			f->as_source = TRACE_AS_LAST;
		}
		if (f->as_source == TRACE_AS_OWN)
			last[i] = f->as_id;
		f->outcome = (uint8_t)outcome_of(t, f);
		t->outcomes[f->outcome]++;
		t->as_sources[f->as_source]++;
	}
	free(vcpus);
	free(last);
	return 0;
nomem:
	free(vcpus);
	free(last);
	return -ENOMEM;
}

/* The first sign of a dirty log, or the number of events. */
static uint32_t first_log(const struct trace *t)
{
	for (uint32_t i = 0; i < t->nr_events; i++)
		if (t->attr[i] == TRACE_ATTR_PROTECT || t->attr[i] == TRACE_ATTR_SPLIT)
			return i;
	return t->nr_events;
}

/* From when on the log that shows itself first may have been on: after the last huge leaf. */
static void find_log_since(struct trace *t)
{
	uint32_t end = first_log(t), since = TRACE_NONE;
	bool huge = false;

	t->log_since = TRACE_NONE;
	for (uint32_t i = 0; end < t->nr_events && i < end; i++) {
		const struct trace_event *ev = &t->events[i];
		bool leaf = t->attr[i] == TRACE_ATTR_INSTALL &&
			    trace_word_class(ev->change.new_word, ev->level) == TRACE_WORD_LEAF;

		huge |= leaf && ev->level > 1;
		if (ev->kind == TRACE_ZAP_ALL_FAST || (leaf && ev->level > 1))
			since = TRACE_NONE;
		else if (leaf && since == TRACE_NONE)
			since = i;
	}
	if (!huge || since == TRACE_NONE)
		return;
	t->log_since = since;
	for (uint32_t n = 0; n < t->nr_faults; n++)
		t->faults[n].logged |= t->faults[n].leaf != TRACE_NONE &&
				       t->faults[n].leaf >= since && t->faults[n].leaf < end;
}

static int alloc_groups(struct grouping *g)
{
	struct trace *t = g->t;
	size_t n = t->nr_events ? t->nr_events : 1;
	size_t faults = t->counts[TRACE_PAGE_FAULT] + 1;

	t->attr = calloc(n, sizeof(*t->attr));
	t->owner = malloc(n * sizeof(*t->owner));
	t->fault_of = malloc(n * sizeof(*t->fault_of));
	t->faults = calloc(faults, sizeof(*t->faults));
	t->installs = calloc(t->counts[TRACE_SPTE_CHANGED] + 1, sizeof(*t->installs));
	t->zap_alls = malloc((t->counts[TRACE_ZAP_ALL_FAST] + 1) * sizeof(*t->zap_alls));
	/* Room for a task an event: what isn't touched costs nothing. */
	g->tasks = calloc(n, sizeof(*g->tasks));
	g->install_fault = calloc(t->counts[TRACE_SPTE_CHANGED] + 1, sizeof(uint32_t));
	if (!t->attr || !t->owner || !t->fault_of || !t->faults || !t->installs || !t->zap_alls ||
	    !g->tasks || !g->install_fault)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nr_events; i++) {
		t->owner[i] = TRACE_NONE;
		t->fault_of[i] = TRACE_NONE;
	}
	return 0;
}

int trace_group(struct trace *t)
{
	struct grouping g = {.t = t};
	int rc = alloc_groups(&g);

	/* Everything is freed below, whatever rc is; the analyzer loses sight of that. */
	for (uint32_t i = 0; !rc && i < t->nr_events; i++) /* NOLINT(clang-analyzer-unix.Malloc) */
		group_event(&g, task_of(&g, t->events[i].pid), i);
	if (!rc)
		rc = sort_installs(&g);
	if (!rc)
		rc = finish_faults(t);
	if (!rc)
		find_log_since(t);
	for (uint32_t i = 0; !rc && i < t->nr_events; i++)
		t->attrs[t->attr[i]]++;
	free(g.tasks);
	free(g.install_fault);
	return rc;
}

uint32_t trace_zaps_before(const struct trace *t, uint32_t i)
{
	uint32_t lo = 0, hi = t->nr_zap_alls;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (t->zap_alls[mid] < i)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const char *trace_attr_name(enum trace_attr attr)
{
	static const char *const names[TRACE_ATTRS] = {
		[TRACE_ATTR_FAULT] = "faults",
		[TRACE_ATTR_INSTALL] = "words installed by a fault",
		[TRACE_ATTR_FAULT_DETAIL] = "details of a fault",
		[TRACE_ATTR_ZAP_ALL] = "zap-all",
		[TRACE_ATTR_ZAP_ALL_ZAP] = "removed by a zap-all",
		[TRACE_ATTR_HOST] = "host events that hit the guest",
		[TRACE_ATTR_HOST_INSIDE] = "host events inside a fault's lookup",
		[TRACE_ATTR_HOST_OTHER] = "host events outside the guest's mappings",
		[TRACE_ATTR_HOST_ZAP] = "removed by a host event",
		[TRACE_ATTR_FREEZE] = "empty words frozen",
		[TRACE_ATTR_PROTECT] = "words write-protected or cleaned",
		[TRACE_ATTR_SPLIT] = "splits",
		[TRACE_ATTR_FAULT_ZAP] = "huge leaves removed by a fault that maps a part",
		[TRACE_ATTR_RECOVER] = "tables made huge leaves again",
		[TRACE_ATTR_ROOT] = "roots",
		[TRACE_ATTR_EXIT_ZAP] = "removed without a recorded cause (the VM's end)",
		[TRACE_ATTR_NO_FAULT] = "not placed: the task had no fault",
		[TRACE_ATTR_WRONG_ADDRESS] = "not placed: not at the fault's address",
		[TRACE_ATTR_ODD_WORD] = "not placed: no rule explains the change",
	};

	return attr < TRACE_ATTRS ? names[attr] : "?";
}

const char *trace_outcome_name(enum trace_outcome outcome)
{
	static const char *const names[TRACE_OUTCOMES] = {
		[TRACE_INSTALLED] = "installed",
		[TRACE_MMIO_CREATED] = "mmio created",
		[TRACE_MMIO_HIT] = "mmio hit",
		[TRACE_FAST_FIXED] = "fast fixed",
		[TRACE_FAST_SPURIOUS] = "fast spurious",
		[TRACE_COW_RETRY] = "copy-on-write retry",
		[TRACE_RO_EMULATED] = "read-only write emulated",
		[TRACE_UNCHANGED] = "unchanged",
	};

	return outcome < TRACE_OUTCOMES ? names[outcome] : "?";
}
