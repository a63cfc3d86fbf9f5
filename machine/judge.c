// SPDX-License-Identifier: BSD-2-Clause
/*
 * The judge: performs flushes, takes promises, watches frees, and decides whether a cached entry
 * may still be used. Only reports; never stops the run, and never looks at a table.
 *
 * Time is one clock that moves at every ticket and every free. An entry is stamped with the time
 * when it was read from memory (read_at) and with that of the oldest entry on the path to it
 * (path_at): a frame freed after read_at is a use after free, a promise whose ticket is after
 * path_at is a missing flush.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine/internal.h"

uint64_t machine_now(struct machine *machine)
{
	return clock_tick(machine);
}

void judge_report(struct machine *machine, const struct machine_report *report)
{
	struct judge *judge = &machine->judge;

	pthread_mutex_lock(&judge->lock);
	judge->count++;
	if (judge->nr_kept < MACHINE_MAX_REPORTS)
		judge->kept[judge->nr_kept++] = *report;
	pthread_mutex_unlock(&judge->lock);
}

/* Fill @report with what is wrong with using @entry for @gpa; false if nothing is. */
static bool find_fault(const struct machine *machine, const struct cached *entry, uint64_t gpa,
		       struct machine_report *report)
{
	uint64_t hpa = entry->hpa, freed;

	if (!entry->table)
		hpa += level_base(gpa - entry->gpa, 1);
	*report = (struct machine_report){
		.tag = entry->tag, .gpa = gpa, .hpa = hpa, .level = entry->level};
	if (entry->broken_at) {
		report->kind =
			entry->table ? MACHINE_REPORT_STALE_TABLE : MACHINE_REPORT_STALE_LEAF;
		report->cached_at = entry->path_at;
		report->broken_at = entry->broken_at;
		report->reason = entry->reason;
		return true;
	}
	report->cached_at = entry->read_at;
	report->kind = entry->table ? MACHINE_REPORT_FREED_TABLE : MACHINE_REPORT_FREED_LEAF;
	report->reason = entry->table ? "the table was freed before the flush"
				      : "the frame was freed before the flush";
	freed = mem_freed_at(machine, hpa);
	if (freed <= entry->read_at && entry->root) {
		report->kind = MACHINE_REPORT_FREED_TABLE;
		report->hpa = entry->root;
		report->reason = "the root was freed before the flush";
		freed = mem_freed_at(machine, entry->root);
	}
	report->broken_at = freed;
	return freed > entry->read_at;
}

bool judge_use(struct machine_cpu *cpu, struct cached *entry, uint64_t gpa)
{
	struct machine_report report;

	if (!find_fault(cpu->machine, entry, gpa, &report))
		return true;
	report.cpu = cpu->id;
	judge_report(cpu->machine, &report);
	tlb_drop_gpa(&cpu->tlb, entry->id, gpa);
	return false;
}

void judge_target(struct machine_cpu *cpu, const struct space *space, uint64_t gpa, uint64_t hpa,
		  unsigned int level, bool table)
{
	struct machine_report report = {.kind = MACHINE_REPORT_MAPS_FREED,
					.cpu = cpu->id,
					.tag = space->tag,
					.gpa = gpa,
					.hpa = hpa,
					.level = level};

	if (machine_mem_in_use(cpu->machine, hpa))
		return;
	report.broken_at = mem_freed_at(cpu->machine, hpa);
	report.reason = table ? "an entry links a freed table" : "an entry maps a freed frame";
	if (!report.broken_at) {
		if (!table)
			return; /* a leaf may well map what is no memory, a device for example */
		report.kind = MACHINE_REPORT_NO_TABLE;
		report.reason = "an entry links a table where no memory is";
	}
	judge_report(cpu->machine, &report);
}

struct freed {
	struct machine_cpu *cpu;
	uint64_t hpa, bytes, when;
};

static void report_cached(struct tlb *tlb, struct cached *entry, void *arg)
{
	const struct freed *freed = arg;
	uint64_t size = entry->table ? PAGE_BYTES : 1ull << level_shift(entry->level);
	struct machine_report report = {.kind = MACHINE_REPORT_CACHED_FREE,
					.cpu = freed->cpu->id,
					.tag = entry->tag,
					.gpa = entry->gpa,
					.hpa = freed->hpa,
					.level = entry->level,
					.cached_at = entry->read_at,
					.broken_at = freed->when,
					.reason = entry->table ? "freed while cached as a table"
							       : "freed while cached as a frame"};

	(void)tlb;
	if (entry->read_at < freed->when && entry->hpa < freed->hpa + freed->bytes &&
	    freed->hpa < entry->hpa + size)
		judge_report(freed->cpu->machine, &report);
}

/* strict_free: report each cache entry that refers to [hpa, hpa + bytes). Takes LP locks. */
static void report_all_cached(struct machine *machine, uint64_t hpa, uint64_t bytes, uint64_t when)
{
	for (unsigned int i = 0; i < machine->config.nr_cpus; i++) {
		struct freed freed = {&machine->cpus[i], hpa, bytes, when};

		pthread_mutex_lock(&freed.cpu->lock);
		tlb_each(&freed.cpu->tlb, MACHINE_TAG_ALL, 0, MACHINE_GPA_END, report_cached,
			 &freed);
		pthread_mutex_unlock(&freed.cpu->lock);
	}
}

int machine_mem_free(struct machine *machine, uint64_t hpa, unsigned int order)
{
	struct machine_report twice = {.kind = MACHINE_REPORT_DOUBLE_FREE,
				       .cpu = -1,
				       .hpa = hpa,
				       .reason = "the block, or a page of it, was not in use"};
	uint64_t when;
	int ret = mem_free_block(machine, hpa, order, &when);

	if (ret == -ENOENT)
		judge_report(machine, &twice);
	else if (!ret && machine->config.strict_free)
		report_all_cached(machine, hpa, PAGE_BYTES << order, when);
	return ret;
}

static void drop(struct tlb *tlb, struct cached *entry, void *arg)
{
	struct machine_cpu *cpu = arg;

	tlb_drop(tlb, entry);
	cpu->counters.flushed++;
}

static void flush_one(struct machine_cpu *cpu, uint64_t tag, uint64_t start, uint64_t end,
		      enum machine_flush_reason reason)
{
	pthread_mutex_lock(&cpu->lock);
	cpu->counters.flushes[reason]++;
	tlb_each(&cpu->tlb, tag, start, end, drop, cpu);
	pthread_mutex_unlock(&cpu->lock);
}

void machine_flush(struct machine *machine, struct machine_cpu *cpu, uint64_t tag, uint64_t start,
		   uint64_t end, enum machine_flush_reason reason)
{
	if (cpu) {
		flush_one(cpu, tag, start, end, reason);
		return;
	}
	for (unsigned int i = 0; i < machine->config.nr_cpus; i++)
		flush_one(&machine->cpus[i], tag, start, end, reason);
}

struct promise {
	uint64_t since;
	bool leaves; /* and nothing else */
	const char *reason;
};

static void mark(struct tlb *tlb, struct cached *entry, void *arg)
{
	const struct promise *promise = arg;

	(void)tlb;
	if (promise->leaves && entry->table)
		return;
	if ((promise->leaves ? entry->read_at : entry->path_at) >= promise->since ||
	    entry->broken_at)
		return;
	entry->broken_at = promise->since;
	entry->reason = promise->reason;
}

static void mark_all(struct machine *machine, uint64_t tag, uint64_t start, uint64_t end,
		     struct promise promise)
{
	for (unsigned int i = 0; i < machine->config.nr_cpus; i++) {
		struct machine_cpu *cpu = &machine->cpus[i];

		pthread_mutex_lock(&cpu->lock);
		tlb_each(&cpu->tlb, tag, start, end, mark, &promise);
		pthread_mutex_unlock(&cpu->lock);
	}
}

void machine_promise(struct machine *machine, uint64_t tag, uint64_t start, uint64_t end,
		     uint64_t since, const char *reason)
{
	if (since == MACHINE_NOW)
		since = clock_tick(machine);
	mark_all(machine, tag, start, end, (struct promise){since, false, reason});
}

void machine_promise_leaves(struct machine *machine, uint64_t tag, uint64_t start, uint64_t end,
			    uint64_t since, const char *reason)
{
	mark_all(machine, tag, start, end, (struct promise){since, true, reason});
}

uint64_t machine_report_count(const struct machine *machine)
{
	struct judge *judge = (struct judge *)&machine->judge; /* const but for its lock */
	uint64_t count;

	pthread_mutex_lock(&judge->lock);
	count = judge->count;
	pthread_mutex_unlock(&judge->lock);
	return count;
}

unsigned int machine_report_get(const struct machine *machine, unsigned int first,
				struct machine_report *reports, unsigned int max)
{
	struct judge *judge = (struct judge *)&machine->judge; /* const but for its lock */
	unsigned int n = 0;

	pthread_mutex_lock(&judge->lock);
	for (; first + n < judge->nr_kept && n < max; n++)
		reports[n] = judge->kept[first + n];
	pthread_mutex_unlock(&judge->lock);
	return n;
}

void machine_report_clear(struct machine *machine)
{
	pthread_mutex_lock(&machine->judge.lock);
	machine->judge.count = 0;
	machine->judge.nr_kept = 0;
	pthread_mutex_unlock(&machine->judge.lock);
}

static const char *const report_names[MACHINE_NR_REPORT_KINDS] = {
	[MACHINE_REPORT_STALE_LEAF] = "stale translation used, flush missing",
	[MACHINE_REPORT_STALE_TABLE] = "stale table entry used, flush missing",
	[MACHINE_REPORT_FREED_LEAF] = "cached translation used after its frame was freed",
	[MACHINE_REPORT_FREED_TABLE] = "cached table entry used after the table was freed",
	[MACHINE_REPORT_MAPS_FREED] = "walk reached freed memory",
	[MACHINE_REPORT_CACHED_FREE] = "freed while a cache still has it",
	[MACHINE_REPORT_NO_TABLE] = "walk left memory",
	[MACHINE_REPORT_DOUBLE_FREE] = "freed twice",
};

int machine_report_text(const struct machine_report *report, char *buf, size_t size)
{
	char cpu[16] = "no cpu";

	if (report->cpu >= 0)
		snprintf(cpu, sizeof(cpu), "cpu %d", report->cpu);
	return snprintf(buf, size,
			"%s: %s, tag 0x%llx, gpa 0x%llx, hpa 0x%llx, level %u, cached at %llu, "
			"gone at %llu: %s",
			report_names[report->kind], cpu, (unsigned long long)report->tag,
			(unsigned long long)report->gpa, (unsigned long long)report->hpa,
			report->level, (unsigned long long)report->cached_at,
			(unsigned long long)report->broken_at,
			report->reason ? report->reason : "");
}
