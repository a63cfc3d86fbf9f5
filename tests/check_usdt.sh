#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The probes that mmu/base/probe.h promises are in the libraries, each one nop, if the build found
# <sys/sdt.h>; else there are none. Looks at what was built in $BUILD, and at the list in that header.
set -u
BUILD=${BUILD:-build}
bad=0

complain() {
	echo "$1"
	bad=1
}

promised=$(sed -n 's/^ \*\t\([a-z_]*\)\t.*/\1/p' mmu/base/probe.h | sort)
[ -n "$promised" ] || complain "mmu/base/probe.h names no probe"
grep -q TPT_USDT "$BUILD/flags" && expected=$promised || expected=

for file in "$BUILD/libtriptych.so" "$BUILD/triptych-core.o"; do
	notes=$(readelf -nW "$file" 2>/dev/null)
	found=$(awk '/Provider: / { p = $NF } /Name: / && p == "triptych" { print $2 }' <<<"$notes" | sort -u)
	[ "$found" = "$expected" ] || complain "$file: probes are: ${found//$'\n'/ }; promised: ${expected//$'\n'/ }"
done

# Where a probe of the shared library says it is, there is a nop (90).
while read -r name address; do
	byte=$(objdump -d --start-address="$address" --stop-address=$((address + 1)) \
		"$BUILD/libtriptych.so" | awk -F'\t' '/^ *[0-9a-f]+:/ { print $2 }' | tr -d ' ')
	[ "$byte" = 90 ] || complain "$name at $address: $byte is no nop"
done < <(readelf -nW "$BUILD/libtriptych.so" 2>/dev/null |
	awk '/Name:/ { n = $2 } /Location:/ { sub(/,/, "", $2); print n, $2 }')
[ -n "$expected" ] || echo "built without <sys/sdt.h>: no probes, and none are there"
exit $bad
