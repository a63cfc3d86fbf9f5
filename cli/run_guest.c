// SPDX-License-Identifier: BSD-2-Clause
/* What a scenario's vCPUs touch: the next address of each pattern. Makes no access. */
#include "cli/run.h"

/* splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). */
uint64_t run_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* The part of the line's area that is this vCPU's. */
static struct run_area area_of(const struct run_guest_line *l, unsigned int vcpu)
{
	struct run_area a = l->area;

	if (l->divided) {
		a.size /= l->last - l->first + 1;
		a.start += (vcpu - l->first) * a.size;
	}
	return a;
}

static uint64_t random_page(uint64_t *state, uint64_t size)
{
	return run_random(state) % (size / RUN_PAGE) * RUN_PAGE;
}

/* An offset into the area, and the place after it. */
static uint64_t offset_of(const struct run_guest_line *l, const struct run_area *a,
			  uint64_t *position, uint64_t *random)
{
	uint64_t n = (*position)++, around;

	switch (l->pattern) {
	case RUN_SEQUENTIAL:
		return n * RUN_PAGE % a->size;
	case RUN_STRIDE:
		/* After one time around it goes on one page further. */
		around = (a->size + l->stride - 1) / l->stride;
		return (n % around * l->stride + n / around * RUN_PAGE) % a->size;
	case RUN_HOT:
		if (run_random(random) % 100 < l->hotness)
			return random_page(random, l->hot);
		return random_page(random, a->size);
	case RUN_RANDOM:
	default:
		return random_page(random, a->size);
	}
}

static unsigned int kind_of(const struct run_guest_line *l, uint64_t *random)
{
	uint64_t percent = l->write || l->exec ? run_random(random) % 100 : 100;

	if (percent < l->write)
		return MACHINE_WRITE;
	return percent < l->write + l->exec ? MACHINE_EXEC : MACHINE_READ;
}

/* Recorded accesses outside of the area are left out. */
static bool from_file(const struct run_guest_line *l, uint64_t *position, struct run_vcpu *v)
{
	for (; *position < l->nr_gpas; (*position)++) {
		uint64_t gpa = l->gpas[*position];

		if (gpa - l->area.start >= l->area.size)
			continue;
		v->gpa = gpa;
		v->kind = l->kinds[(*position)++];
		return true;
	}
	return false;
}

static struct run_guest_line *line_at(struct run *r, unsigned int vcpu, uint64_t step)
{
	/* The scenario is shared by all vCPUs and not written. */
	for (uint32_t i = 0; i < r->sc->nr_guests; i++) {
		const struct run_guest_line *l = &r->sc->guests[i];

		if (vcpu >= l->first && vcpu <= l->last && step >= l->from && step < l->to)
			return (struct run_guest_line *)l;
	}
	return NULL;
}

bool guest_next(struct run *r, unsigned int vcpu, uint64_t step)
{
	struct run_vcpu *v = &r->vcpus[vcpu];
	struct run_guest_line *l;
	struct run_area a;
	uint32_t n;

	if (v->pending)
		return true;
	l = line_at(r, vcpu, step);
	if (!l)
		return false;
	n = (uint32_t)(l - r->sc->guests);
	v->doing = l;
	if (l->pattern == RUN_FILE)
		return v->pending = from_file(l, &v->place[n].position, v);
	a = area_of(l, vcpu);
	v->gpa = a.start + offset_of(l, &a, &v->place[n].position, &v->place[n].random);
	v->kind = kind_of(l, &v->place[n].random);
	v->pending = true;
	return true;
}

void guest_done(struct run *r, unsigned int vcpu)
{
	r->vcpus[vcpu].pending = false;
}
