#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The examples that the documents show are those that the tests compile and run.
set -eu
shows() {
	if [ "$(sed -n '/^```c$/,/^```$/p' "$1" | sed '1d;$d')" != "$(cat "$2")" ]; then
		echo "$1 does not show $2 as it is"
		exit 1
	fi
	echo "$1 shows $2"
}
shows README.md examples/embed.c
shows docs/tdx.md examples/tdx_module.c
shows docs/bare-metal.md examples/bare.c
