/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What memory and caches know of each line of 64 bytes: the key it was last written under, poison,
 * and what a cache still has to write back. The rules of who may read what; never a leaf.
 *
 * A page that never was a TD's has no state: key id 0, clean. One whose lines are all alike, as
 * those of a good host are, has four words. Only one in trouble has a state for each line.
 *
 * The module's and a TD's own loads look at all this only while there is anything to look at:
 * lines_watched(). A page lock is held inside of these functions and by nobody else.
 */
#ifndef TDX_MODULE_LINES_H
#define TDX_MODULE_LINES_H

#include "tdx/module/crypt.h"

int lines_init(struct tdx_module *m);
void lines_exit(struct tdx_module *m);

/* Room for the state of [@hpa, @hpa + @size), before the pages change hands. False: no memory. */
bool lines_prepare(struct tdx_module *m, uint64_t hpa, uint64_t size);

/*
 * The module is about to write every line of the 4 KiB page @hpa, in full. From here on the lines
 * are @key's, and any of them may be dirty until the page is released.
 */
void lines_take(struct tdx_module *m, struct mem_key *key, uint64_t hpa);
/* The same, and here they are written: 4 KiB of @content, or zeros (NULL). */
void lines_fill(struct tdx_module *m, struct mem_key *key, uint64_t hpa, const uint8_t *content);
/* The page of @level is not the module's any more. */
void lines_release(struct tdx_module *m, uint64_t hpa, unsigned int level);

/* Lines of a page that caches have under key id @hkid are written back. */
void lines_flush(struct tdx_module *m, unsigned int hkid, uint64_t hpa, size_t len);
/* Cache write-back on one package: its start, and its end with what the start gave. */
uint64_t lines_write_back_begin(struct tdx_module *m);
void lines_write_back_end(struct tdx_module *m, unsigned int package, uint64_t begun);

enum line_op { LINE_LOAD, LINE_STORE, LINE_STORE_FULL };

/*
 * An access under @key. LINE_STORE_FULL: whole lines past the cache; @buf NULL: zeros. False: a
 * machine check; a load has then filled the rest of @buf with zeros.
 */
bool lines_access(struct tdx_module *m, struct mem_key *key, uint64_t hpa, void *buf, size_t len,
		  enum line_op op);

/* Anything to look at? */
static inline bool lines_watched(const struct tdx_module *m)
{
	return atomic_load_explicit(&m->watch, memory_order_relaxed) != 0;
}

/* May bytes that the embedder says are at @hpa be used under the shared key ids as they are? */
bool lines_plain(struct tdx_module *m, uint64_t hpa);

/* Would a load under @key be a machine check? If not, the bytes are now what @key sees. */
bool lines_check(struct tdx_module *m, struct mem_key *key, uint64_t hpa, size_t len);

/* The module's own loads: a machine check is its end. False then. */
bool lines_module_check(struct tdx_module *m, struct mem_key *key, uint64_t hpa, size_t len);
bool lines_module_load(struct tdx_module *m, struct mem_key *key, uint64_t hpa, void *buf,
		       size_t len);
/* The same of an operand with a shared key id. */
bool lines_module_load_shared(struct tdx_module *m, uint64_t pa, void *buf, size_t len);

/* The state of one line, and its bytes as memory would have them. */
void lines_view(struct tdx_module *m, uint64_t hpa, struct tdx_line_view *view);
void lines_bus(struct tdx_module *m, uint64_t hpa, uint8_t bytes[LINE_BYTES]);

/* The key that @hkid's lines would be written with by the host: NULL for 0. */
struct mem_key *lines_shared_key(struct tdx_module *m, unsigned int hkid);

/* memory.c: tdx_port_module.data. */
enum tdx_port_data memory_port_data(void *module, unsigned int lp, uint64_t hpa, bool is_private,
				    void *buf, size_t len, bool write);

#endif
