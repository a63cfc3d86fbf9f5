// SPDX-License-Identifier: BSD-2-Clause
/*
 * The page's three source files, in the program as they are. Nothing else: no byte of them is
 * looked at here.
 */
#include "cli/report_internal.h"

/* Paths are from the root of the sources, where everything is compiled. */
#define EMBED(symbol, file)                                                          \
	__asm__(".pushsection .rodata\n"                                             \
		".balign 8\n"                                                        \
		".global " #symbol ", " #symbol "_size\n" #symbol ":\n"              \
		".incbin \"" file "\"\n"                                             \
		".Lend_" #symbol ":\n"                                               \
		".balign 8\n" #symbol "_size: .quad .Lend_" #symbol "-" #symbol "\n" \
		".popsection\n")

EMBED(report_page_html, "cli/report_page.html");
EMBED(report_page_css, "cli/report_page.css");
EMBED(report_page_js, "cli/report_page.js");
