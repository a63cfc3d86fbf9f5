// SPDX-License-Identifier: BSD-2-Clause
/*
 * The page's three source files, in the program as they are. Nothing else: no byte of them is
 * looked at here.
 */
#include "cli/report_internal.h"

/* Paths are from the root of the sources, where everything is compiled. */
#define EMBED(symbol, file)                                            \
	__asm__(".pushsection .rodata\n"                               \
		".global " #symbol ", " #symbol "_end\n" #symbol ":\n" \
		".incbin \"" file "\"\n" #symbol "_end:\n"             \
		".byte 0\n"                                            \
		".popsection\n")

EMBED(report_page_html, "cli/report_page.html");
EMBED(report_page_css, "cli/report_page.css");
EMBED(report_page_js, "cli/report_page.js");
