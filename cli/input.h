/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes of a file or of standard input, decompressed on the way: xz, gzip, zstd or plain. Never
 * looks at a file's name to learn what is in it, and knows nothing of traces.
 */
#ifndef TRIPTYCH_CLI_INPUT_H
#define TRIPTYCH_CLI_INPUT_H

#include <stddef.h>
#include <stdint.h>

/* Room for one message: enough for a path and a sentence. */
#define INPUT_ERR_LEN 512

struct input;

/*
 * Opens @path, or standard input if @path is "-", and finds the compression by its first bytes. The
 * caller owns *@out and ends it with input_close(). Errors: -errno of open or read, -ENOMEM; @err
 * then says which file and why.
 */
int input_open(const char *path, struct input **out, char err[INPUT_ERR_LEN]);

/*
 * Reads up to @len decompressed bytes into @buf. Returns how many, 0 at the end of whole input, or:
 * -ENODATA, the compressed stream ends early; -EBADMSG, it is damaged; -errno of read. Bytes handed
 * out before an error are good: a stream is decoded in order, and a checksum that fails later is
 * reported when it is met.
 */
long input_read(struct input *in, void *buf, size_t len, char err[INPUT_ERR_LEN]);

/* Compressed bytes taken from the file so far, and the file's size in bytes (0 when it can't be
 * known: a pipe). */
uint64_t input_consumed(const struct input *in);
uint64_t input_size(const struct input *in);

/* "plain", "xz", "gzip" or "zstd". */
const char *input_format(const struct input *in);

/* Closes and frees; NULL is allowed. */
void input_close(struct input *in);

#endif
