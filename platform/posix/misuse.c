// SPDX-License-Identifier: BSD-2-Clause
/* What the platform says: its log, and the rules of platform.h that were broken. Decides none. */
#include <stdarg.h>
#include <stdio.h>

#include "platform/posix/internal.h"

static const char *const level_names[] = {
	[TPT_LOG_ERROR] = "error",
	[TPT_LOG_WARNING] = "warning",
	[TPT_LOG_INFO] = "info",
};

void posix_log(void *ctx, enum tpt_log_level level, const char *text)
{
	struct tpt_posix *posix = ctx;

	if (posix->config.hooks.log)
		posix->config.hooks.log(posix->config.hooks_ctx, level, text);
	else if (level != TPT_LOG_INFO)
		fprintf(stderr, "triptych: %s: %s\n", level_names[level], text);
}

void posix_misuse(struct tpt_posix *posix, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	atomic_fetch_add(&posix->misuses, 1);
	posix_log(posix, TPT_LOG_ERROR, text);
}
