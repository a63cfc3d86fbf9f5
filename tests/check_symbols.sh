#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The core and platform/bare run without an operating system, and an embedder is shown nothing but tpt_*.
# Looks at what was built in $BUILD; never at sources.
set -u
BUILD=${BUILD:-build}
NM=${NM:-nm}
bad=0

complain() { # TEXT SYMBOLS
	[ -z "$2" ] && return
	printf '%s:\n%s\n' "$1" "$2"
	bad=1
}

for part in core bare; do
	object=$BUILD/triptych-$part.o
	[ "$($NM --defined-only "$object" | wc -l)" -gt 0 ] || complain "$object" "defines nothing"

	# A compiler may call these four on its own; the offset table is the linker's.
	complain "symbols that $part needs from outside" "$($NM -u "$object" |
		awk '$NF !~ /^(memcpy|memset|memmove|memcmp|_GLOBAL_OFFSET_TABLE_)$/ { print $NF }')"

	# D, B, C and their local forms: data that can be written, so state shared by all VMs.
	complain "global mutable state in $part" "$($NM --defined-only "$object" | awk '
		$2 ~ /^[dDbBcCgGsS]$/ && $3 !~ /^\./ { print $3 }' | while read -r name; do
			objdump -t "$object" |
				awk -v n="$name" '$NF == n && $0 !~ /\.data\.rel\.ro/ { print n }'
		done)"
done

complain "names in libtriptych.a that are not tpt_*" "$($NM -g --defined-only "$BUILD/libtriptych.a" |
	awk 'NF == 3 && $3 !~ /^tpt_/ { print $3 }')"
complain "names in libtriptych.so that are not tpt_*" "$($NM -D --defined-only "$BUILD/libtriptych.so" |
	awk '$3 !~ /^(tpt_|TRIPTYCH_)/ { print $3 }')"

complain "names in libtdxmodule.a that are not tdx_module_* or tdx_memory_*" \
	"$($NM -g --defined-only "$BUILD/libtdxmodule.a" |
		awk 'NF == 3 && $3 !~ /^tdx_(module|memory)_/ { print $3 }')"

# Both libraries offer the same.
complain "names in only one of libtriptych.a and libtriptych.so" "$(comm -3 \
	<($NM -g --defined-only "$BUILD/libtriptych.a" | awk 'NF == 3 { print $3 }' | sort) \
	<($NM -D --defined-only "$BUILD/libtriptych.so" |
		awk '$3 ~ /^tpt_/ { sub(/@.*/, "", $3); print $3 }' | sort))"
exit $bad
