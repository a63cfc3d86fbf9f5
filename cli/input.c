// SPDX-License-Identifier: BSD-2-Clause
/*
 * The decoders behind cli/input.h: each takes compressed bytes from one buffer and fills the
 * caller's. What the bytes mean is never looked at here.
 */
#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define INPUT_CHUNK 65536
/* The longest signature among the formats: xz's, 6 bytes (.xz file format 1.2, section 2.1.1.1). */
#define MAGIC_LEN 6

enum input_kind { INPUT_PLAIN, INPUT_XZ, INPUT_GZIP, INPUT_ZSTD };

struct input {
	int fd;
	enum input_kind kind;
	char *path;
	uint64_t consumed;
	uint64_t size;
	/* Compressed bytes read and not yet decoded: raw[pos, fill). */
	uint8_t *raw;
	size_t pos;
	size_t fill;
	bool raw_end;
	/* The decoder stands at the end of a frame or member: ending here is no truncation. */
	bool at_boundary;
	bool done;
	lzma_stream xz;
	z_stream gz;
	ZSTD_DStream *zs;
};

static const char *const kind_names[] = {"plain", "xz", "gzip", "zstd"};

static int refuse(char err[INPUT_ERR_LEN], int code, const struct input *in, const char *why)
{
	snprintf(err, INPUT_ERR_LEN, "%s: %s", in->path, why);
	return code;
}

/* Makes at least one raw byte available unless the file has ended. 0 or -errno. */
static int refill(struct input *in, char err[INPUT_ERR_LEN])
{
	ssize_t n;

	if (in->pos < in->fill || in->raw_end)
		return 0;
	do {
		n = read(in->fd, in->raw, INPUT_CHUNK);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return refuse(err, -errno, in, strerror(errno));
	in->pos = 0;
	in->fill = (size_t)n;
	in->raw_end = n == 0;
	in->consumed += (uint64_t)n;
	return 0;
}

/* Reads until the signature is whole or the file ends; short reads are normal on a pipe. */
static int read_magic(struct input *in, char err[INPUT_ERR_LEN])
{
	while (in->fill < MAGIC_LEN) {
		ssize_t n = read(in->fd, in->raw + in->fill, INPUT_CHUNK - in->fill);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return refuse(err, -errno, in, strerror(errno));
		if (n == 0) {
			in->raw_end = in->fill == 0;
			break;
		}
		in->fill += (size_t)n;
		in->consumed += (uint64_t)n;
	}
	return 0;
}

static enum input_kind kind_of(const uint8_t *b, size_t n)
{
	/* .xz 2.1.1.1; RFC 1952 2.3.1; RFC 8878 3.1.1, and 3.1.2 for a skippable frame in front. */
	if (n >= 6 && !memcmp(b,
			      "\xfd"
			      "7zXZ\0",
			      6))
		return INPUT_XZ;
	if (n >= 2 && b[0] == 0x1f && b[1] == 0x8b)
		return INPUT_GZIP;
	if (n >= 4 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd && b[0] == 0x28)
		return INPUT_ZSTD;
	if (n >= 4 && (b[0] & 0xf0) == 0x50 && b[1] == 0x2a && b[2] == 0x4d && b[3] == 0x18)
		return INPUT_ZSTD;
	return INPUT_PLAIN;
}

static int start_decoder(struct input *in, char err[INPUT_ERR_LEN])
{
	switch (in->kind) {
	case INPUT_XZ:
		in->xz = (lzma_stream)LZMA_STREAM_INIT;
		if (lzma_stream_decoder(&in->xz, UINT64_MAX, LZMA_CONCATENATED) != LZMA_OK)
			return refuse(err, -ENOMEM, in, "no memory for the xz decoder");
		return 0;
	case INPUT_GZIP:
		/* 16 + 15: a gzip header, the largest window. */
		if (inflateInit2(&in->gz, 16 + 15) != Z_OK)
			return refuse(err, -ENOMEM, in, "no memory for the gzip decoder");
		return 0;
	case INPUT_ZSTD:
		in->zs = ZSTD_createDStream();
		if (!in->zs || ZSTD_isError(ZSTD_initDStream(in->zs)))
			return refuse(err, -ENOMEM, in, "no memory for the zstd decoder");
		return 0;
	default:
		return 0;
	}
}

int input_open(const char *path, struct input **out, char err[INPUT_ERR_LEN])
{
	struct input *in = calloc(1, sizeof(*in));
	struct stat st;
	int rc = -ENOMEM;

	*out = NULL;
	if (!in)
		goto nomem;
	in->fd = -1;
	in->path = strdup(strcmp(path, "-") ? path : "standard input");
	in->raw = malloc(INPUT_CHUNK);
	if (!in->path || !in->raw)
		goto nomem;
	in->fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
	if (in->fd < 0) {
		rc = refuse(err, -errno, in, strerror(errno));
		goto fail;
	}
	if (!fstat(in->fd, &st) && S_ISREG(st.st_mode))
		in->size = (uint64_t)st.st_size;
	rc = read_magic(in, err);
	if (rc)
		goto fail;
	in->kind = kind_of(in->raw, in->fill);
	rc = start_decoder(in, err);
	if (rc)
		goto fail;
	*out = in;
	return 0;
nomem:
	snprintf(err, INPUT_ERR_LEN, "%s: out of memory", path);
fail:
	input_close(in);
	return rc;
}

static long read_plain(struct input *in, void *buf, size_t len)
{
	size_t n = in->fill - in->pos;

	if (n > len)
		n = len;
	memcpy(buf, in->raw + in->pos, n);
	in->pos += n;
	return (long)n;
}

static long step_xz(struct input *in, void *buf, size_t len, char err[INPUT_ERR_LEN])
{
	lzma_ret rc;

	in->xz.next_in = in->raw + in->pos;
	in->xz.avail_in = in->fill - in->pos;
	in->xz.next_out = buf;
	in->xz.avail_out = len;
	rc = lzma_code(&in->xz, in->raw_end ? LZMA_FINISH : LZMA_RUN);
	in->pos = in->fill - in->xz.avail_in;
	if (rc == LZMA_STREAM_END)
		in->done = true;
	else if (rc == LZMA_BUF_ERROR && in->raw_end && in->xz.avail_out == len)
		return refuse(err, -ENODATA, in, "the xz stream ends early: the file is cut off");
	else if (rc == LZMA_MEM_ERROR)
		return refuse(err, -ENOMEM, in, "no memory for the xz decoder");
	else if (rc != LZMA_OK && rc != LZMA_BUF_ERROR)
		return refuse(err, -EBADMSG, in, "the xz stream is damaged");
	return (long)(len - in->xz.avail_out);
}

static long step_gzip(struct input *in, void *buf, size_t len, char err[INPUT_ERR_LEN])
{
	int rc;

	if (in->at_boundary) {
		if (in->raw_end) {
			in->done = true;
			return 0;
		}
		/* RFC 1952 2.2: members follow one another with nothing between. */
		inflateReset(&in->gz);
		in->at_boundary = false;
	}
	if (in->raw_end)
		return refuse(err, -ENODATA, in, "the gzip stream ends early: the file is cut off");
	in->gz.next_in = in->raw + in->pos;
	in->gz.avail_in = (uInt)(in->fill - in->pos);
	in->gz.next_out = buf;
	in->gz.avail_out = (uInt)len;
	rc = inflate(&in->gz, Z_NO_FLUSH);
	in->pos = in->fill - in->gz.avail_in;
	if (rc == Z_STREAM_END)
		in->at_boundary = true;
	else if (rc != Z_OK && rc != Z_BUF_ERROR)
		return refuse(err, -EBADMSG, in, "the gzip stream is damaged");
	return (long)(len - in->gz.avail_out);
}

static long step_zstd(struct input *in, void *buf, size_t len, char err[INPUT_ERR_LEN])
{
	ZSTD_inBuffer src = {in->raw, in->fill, in->pos};
	ZSTD_outBuffer dst = {buf, len, 0};
	size_t rc;

	if (in->raw_end && in->at_boundary) {
		in->done = true;
		return 0;
	}
	rc = ZSTD_decompressStream(in->zs, &dst, &src);
	if (ZSTD_isError(rc))
		return refuse(err, -EBADMSG, in, "the zstd stream is damaged");
	if (in->raw_end && !dst.pos && rc)
		return refuse(err, -ENODATA, in, "the zstd stream ends early: the file is cut off");
	in->pos = src.pos;
	in->at_boundary = rc == 0;
	return (long)dst.pos;
}

long input_read(struct input *in, void *buf, size_t len, char err[INPUT_ERR_LEN])
{
	/* Decoders count in unsigned int. */
	if (len > (1u << 30))
		len = 1u << 30;
	while (!in->done && len) {
		long n = refill(in, err);

		if (n < 0)
			return n;
		switch (in->kind) {
		case INPUT_PLAIN:
			in->done = in->raw_end;
			n = read_plain(in, buf, len);
			break;
		case INPUT_XZ:
			n = step_xz(in, buf, len, err);
			break;
		case INPUT_GZIP:
			n = step_gzip(in, buf, len, err);
			break;
		case INPUT_ZSTD:
			n = step_zstd(in, buf, len, err);
			break;
		}
		if (n)
			return n;
	}
	return 0;
}

uint64_t input_consumed(const struct input *in)
{
	return in->consumed - (in->fill - in->pos);
}

uint64_t input_size(const struct input *in)
{
	return in->size;
}

const char *input_format(const struct input *in)
{
	return kind_names[in->kind];
}

void input_close(struct input *in)
{
	if (!in)
		return;
	if (in->kind == INPUT_XZ)
		lzma_end(&in->xz);
	if (in->kind == INPUT_GZIP)
		inflateEnd(&in->gz);
	ZSTD_freeDStream(in->zs);
	if (in->fd >= 0)
		close(in->fd);
	free(in->raw);
	free(in->path);
	free(in);
}
