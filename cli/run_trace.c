// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the library did, as lines of a tracefs trace that `triptych replay` reads. Time is the
 * number of the line, in microseconds: order is what counts.
 */
#include <errno.h>
#include <stdlib.h>

#include "cli/run.h"

/* Task ids: made up, one for the VMM and one for each vCPU. */
#define VMM_PID	 1000
#define VCPU_PID 1001

struct run_trace {
	FILE *file;
	pthread_mutex_t lock;
	uint64_t lines;
	bool failed;
};

/* Whose work the calling thread does: the library names no vCPU where one makes the host do
 * something. */
static _Thread_local int task = -1;
/* The fault that the calling thread is in. */
static _Thread_local uint64_t fault_gpa, fault_code;
static _Thread_local bool fault_asked;

#define WORD_WRITE (1ull << 1) /* in both formats of direct trees */

void run_trace_task(int vcpu)
{
	task = vcpu;
}

int run_trace_open(struct run_trace **out, const char *path)
{
	struct run_trace *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->file = fopen(path, "w");
	if (!t->file) {
		int err = -errno;

		free(t);
		return err;
	}
	pthread_mutex_init(&t->lock, NULL);
	fprintf(t->file, "# tracer: nop\n#\n#           TASK-PID     CPU#  |||||  TIMESTAMP  "
			 "FUNCTION\n#              | |         |   |||||     |         |\n");
	*out = t;
	return 0;
}

static void write_line(struct run_trace *t, int vcpu, const char *text)
{
	char name[32] = "vmm";
	uint64_t us;

	if (vcpu >= 0)
		snprintf(name, sizeof(name), "CPU %d/RUN", vcpu);
	pthread_mutex_lock(&t->lock);
	us = ++t->lines;
	if (fprintf(t->file, "%16s-%-7d [%03d] ..... %5lu.%06lu: %s\n", name,
		    vcpu >= 0 ? VCPU_PID + vcpu : VMM_PID, vcpu >= 0 ? vcpu : 0, us / 1000000,
		    us % 1000000, text) < 0)
		t->failed = true;
	pthread_mutex_unlock(&t->lock);
}

/* Does a fault give a leaf W back and nothing else, without asking the backing? That is the fast
 * path, which KVM tells otherwise. */
static bool is_fast(const struct tpt_event *e)
{
	uint64_t differs = e->old_spte.w ^ e->new_spte.w;

	return e->kind == TPT_EVENT_SPTE_CHANGED && e->vcpu >= 0 && !fault_asked &&
	       differs == WORD_WRITE && e->new_spte.w & WORD_WRITE &&
	       trace_word_class(e->old_spte.w, e->level) == TRACE_WORD_LEAF;
}

/* As Linux prints it: error code by the letters of its low bits, the frame's pointer hidden. */
static void format_fast(const struct tpt_event *e, char *text, size_t size)
{
	snprintf(text, size,
		 "fast_page_fault: vcpu %d gva %lx error_code %sW sptep 0 old 0x%lx new %lx "
		 "spurious 0 fixed 1",
		 e->vcpu, fault_gpa, fault_code & TPT_PFERR_PRESENT ? "P|" : "", e->old_spte.w,
		 e->new_spte.w);
}

void run_trace_event(void *trace, const struct tpt_event *event)
{
	char text[512];

	if (event->kind == TPT_EVENT_PAGE_FAULT) {
		fault_gpa = event->gpa.a;
		fault_code = event->error_code;
		fault_asked = false;
	}
	if (is_fast(event))
		format_fast(event, text, sizeof(text));
	else
		tpt_event_format(event, text, sizeof(text));
	write_line(trace, event->vcpu >= 0 ? event->vcpu : task, text);
}

void run_trace_requested(struct run_trace *trace, tpt_gfn gfn, tpt_pfn pfn, enum tpt_level level)
{
	char text[128];

	fault_asked = true;
	snprintf(text, sizeof(text), "kvm_mmu_spte_requested: gfn %lx pfn %lx level %d", gfn, pfn.n,
		 level);
	write_line(trace, task, text);
}

void run_trace_mmio(struct run_trace *trace, unsigned int vcpu, uint64_t gpa, bool write)
{
	char text[128];

	snprintf(text, sizeof(text), "kvm_mmio: mmio %s len 4 gpa 0x%lx val 0x0",
		 write ? "write" : "read", gpa);
	write_line(trace, (int)vcpu, text);
}

int run_trace_close(struct run_trace *trace)
{
	int err = 0;

	if (!trace)
		return 0;
	if (fclose(trace->file) || trace->failed)
		err = -EIO;
	pthread_mutex_destroy(&trace->lock);
	free(trace);
	return err;
}
