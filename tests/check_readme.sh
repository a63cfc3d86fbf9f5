#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The example that the README shows is the one that the tests compile and run.
set -eu
shown=$(sed -n '/^```c$/,/^```$/p' README.md | sed '1d;$d')
if [ "$shown" != "$(cat examples/embed.c)" ]; then
	echo "README.md does not show examples/embed.c as it is"
	exit 1
fi
echo "README.md shows examples/embed.c"
