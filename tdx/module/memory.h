/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Protected memory: the doors through which an embedder's own stores and loads reach physical
 * memory, what they find there, and what is reported when a host breaks the rules. Part of
 * libtdxmodule; never a SEAMCALL.
 *
 *	host's load, store   --tdx_module_host_*-->      line: key id, TD-owner bit, poison, and
 *	guest's load, store  --tdx_module_guest_access-->  in which cache under which key id
 *	the module's own     (inside the leaves)
 *
 * The bytes behind tdx_module_config.page() are a line's content as the key sees it under which
 * the line was last written. What memory itself holds is that, encrypted (AES-XTS, a unit of one
 * line, its address as tweak); it is computed when somebody looks with another key. So an embedder
 * reads and writes memory that may ever have been a TD's through these doors; through page() it
 * would see what no processor sees. Memory outside of every TDMR can never be a TD's: there the
 *doors lead to the bytes as they are. docs/tdx-memory.md says what of this is documented, and
 *where.
 *
 * Addresses: @pa may carry a shared key id above the address bits; @hpa carries none. An access may
 * cross pages and is done page by page; where there is no memory, zeros are read and stores lost.
 * All functions may be called from any thread.
 */
#ifndef TDX_MODULE_MEMORY_H
#define TDX_MODULE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tdx_module;

#define TDX_LINE_BYTES 64

/* What memory does besides encrypting. */
enum tdx_memory_mode {
	/* Cryptographic integrity: each line has a TD-owner bit and a MAC made with its key. */
	TDX_MEMORY_CI,
	/* Logical integrity: the TD-owner bit alone. With another TD's key one reads nonsense. */
	TDX_MEMORY_LI,
	/* Encryption alone, as without TDX: the host reads ciphertext, no change is noticed. */
	TDX_MEMORY_NO_OWNER,
	/* No encryption: everybody reads and writes the same bytes. */
	TDX_MEMORY_PLAIN,
};

/* When a line that was written leaves the caches. */
enum tdx_write_back {
	/* With the store: nobody ever meets a line that another key id has in a cache. */
	TDX_WRITE_BACK_AT_ONCE,
	/*
	 * As late as the architecture allows: not before PAGE.WBINVD, CLFLUSH, or CACHE.WB on all
	 * packages; without them in the moment in which it does the most harm, on the first read
	 * of what was written to the same line under another key id.
	 */
	TDX_WRITE_BACK_LATE,
};

enum tdx_memory_event_kind {
	/* A host's store reached a line of a page that the module or a TD has now. */
	TDX_MEMORY_HOST_WRITE,
	/*
	 * A plain store to a line that was a TD's and that no full-line store (MOVDIR64B) has
	 * healed since: what is read there from now on is poison.
	 */
	TDX_MEMORY_STALE_POISON,
	/*
	 * @by_hkid has taken a line that a cache still has dirty under @line_hkid: PAGE.WBINVD
	 * (or CLFLUSH, for a host's own line) was not called, or too early.
	 */
	TDX_MEMORY_NO_WRITE_BACK,
	/* And here it comes: the line of @line_hkid is written back over what @by_hkid has there.
	 */
	TDX_MEMORY_LATE_WRITE_BACK,
	/* A load under @by_hkid found poison, or a line of @line_hkid that it must not read. */
	TDX_MEMORY_MACHINE_CHECK,
	TDX_NR_MEMORY_EVENTS,
};

/* One event is about one line. */
struct tdx_memory_event {
	enum tdx_memory_event_kind kind;
	uint64_t hpa;		/* of the line; its page is @hpa & ~0xfff */
	unsigned int by_hkid;	/* key id of the access, or of what was written over */
	unsigned int line_hkid; /* key id that the line has or had */
};

/* "late write-back", ...; NULL if there is no such kind. */
const char *tdx_memory_event_name(enum tdx_memory_event_kind kind);
/* One line without newline; returns its length as snprintf does. */
int tdx_memory_event_text(const struct tdx_memory_event *event, char *buf, size_t size);
/* Events of @kind so far, whether or not tdx_module_config.memory_event hears them. */
uint64_t tdx_module_memory_events(struct tdx_module *module, enum tdx_memory_event_kind kind);

/* -- The host's doors. 0, or: -EPERM @pa has a private key id, which no VMM can use; nothing done.
 */

/*
 * Load. A TD's line reads as zeros (CI, LI) or as ciphertext (NO_OWNER). -EIO: a machine check; the
 * rest of @buf from the poisoned line on is zeros.
 */
int tdx_module_host_read(struct tdx_module *module, uint64_t pa, void *buf, size_t len);
/* Plain stores, through the cache: they leave poison in a TD's line, and never heal one. */
int tdx_module_host_write(struct tdx_module *module, uint64_t pa, const void *buf, size_t len);
/*
 * Stores of full lines past the cache (MOVDIR64B): they make each line the host's, whatever it
 * was. @buf NULL: zeros. -EINVAL: @pa or @len is not a multiple of TDX_LINE_BYTES.
 */
int tdx_module_host_write_lines(struct tdx_module *module, uint64_t pa, const void *buf,
				size_t len);
/* CLFLUSH: what caches hold of these lines under @pa's key id is written back now. */
int tdx_module_host_flush(struct tdx_module *module, uint64_t pa, size_t len);

/* What a probe on the memory bus reads, as if every cache had been written back: ciphertext. */
void tdx_module_bus_read(struct tdx_module *module, uint64_t hpa, void *buf, size_t len);

/* -- The guest's door, for embedders without a processor model; with one: tdx_port_module.data --
 */

/*
 * A load or store by the guest on @lp at @hpa, to which its Secure EPT (@is_private) or its shared
 * EPT translated; inside one page. @buf NULL: the bytes are only touched. 0; -ENOENT: @lp is in no
 * TD; -EIO: a machine check, which the embedder delivers by tdx_module_vmexit() with reason
 * TDX_EXIT_EXCEPTION_NMI and interrupt_info TDX_INTERRUPT_MACHINE_CHECK.
 */
int tdx_module_guest_access(struct tdx_module *module, unsigned int lp, uint64_t hpa,
			    bool is_private, void *buf, size_t len, bool write);

/* -- Inspection -- */

struct tdx_line_view {
	unsigned int hkid; /* key id under which the line was last written */
	bool td_owner;	   /* it is a private one */
	bool poisoned;
	bool dirty; /* a cache has it, newer than memory */
	bool stale; /* a cache has an older version under another key id, yet to come */
	unsigned int stale_hkid;
};

/* The line of @hpa. A page that never was a TD's: key id 0 and nothing else. */
void tdx_module_view_line(struct tdx_module *module, uint64_t hpa, struct tdx_line_view *view);

/*
 * The key of key id @hkid as the package has it that the memory at @hpa hangs from, in the order
 * that tdx_memory_xts() takes. Its length in bits, or -ENOENT: no key has been configured.
 */
int tdx_module_view_key(struct tdx_module *module, unsigned int hkid, uint64_t hpa,
			uint8_t key[64]);

/*
 * AES-XTS (IEEE 1619) of one data unit of @len bytes, at least 16, with number @unit. @bits is 128
 * or 256: @key is two AES keys of that length. The same that memory is encrypted with; there a unit
 * is a line, its number the line's address in bytes. False: @bits or @len out of range.
 */
bool tdx_memory_xts(const uint8_t *key, unsigned int bits, uint64_t unit, bool encrypt,
		    const uint8_t *in, uint8_t *out, size_t len);

#endif
