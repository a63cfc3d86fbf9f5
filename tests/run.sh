#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Runs test programs and checks, shows what failed, ends with "N passed, N failed". Judges nothing by
# itself but this: a program that dies, hangs, runs fewer tests than it said or none at all has failed.
#
# usage: BUILD=dir [SAN=asan|tsan] tests/run.sh PROGRAM... [--check COMMAND]...
# A PROGRAM is a cmocka program, its tests are counted one by one; a COMMAND counts as one test.
set -u

passed=0
failed=0
skipped=0
seconds=${TEST_SECONDS:-300}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=0:second_deadlock_stack=1}

# ThreadSanitizer of this age can't live with the address randomisation of newer kernels.
launch=()
[ "${SAN:-}" = tsan ] && launch=(setarch "$(uname -m)" -R)

result() { # NAME LOG PASSED FAILED SKIPPED STATUS
	passed=$((passed + $3))
	failed=$((failed + $4))
	skipped=$((skipped + $5))
	if [ "$4" -gt 0 ]; then
		sed 's/^/    /' "$2"
		printf '%-40s %4d passed, %d FAILED (exit status %d)\n' "$1" "$3" "$4" "$6"
	elif [ "$5" -gt 0 ]; then
		printf '%-40s %4d passed, %d skipped\n' "$1" "$3" "$5"
	else
		printf '%-40s %4d passed\n' "$1" "$3"
	fi
}

run_cmocka() {
	local name=${1#"$BUILD"/} log=$1.log status=0 said ok skip bad
	timeout -k 5 "$seconds" "${launch[@]}" "$1" >"$log" 2>&1 || status=$?
	said=$(grep -a '^\[==========\] Running [0-9]* test(s)' "$log" |
		awk '{ n += $3 } END { print n + 0 }')
	ok=$(grep -ac '^\[       OK \] ' "$log")
	skip=$(awk '/^\[  SKIPPED \] / && !/test\(s\)/ && !seen[$0]++ { n++ } END { print n + 0 }' "$log")
	bad=$((said - ok - skip))
	# Dead after its last test, a leak found at the end, or no test at all.
	if [ "$bad" -le 0 ] && { [ "$status" -ne 0 ] || [ "$said" -eq 0 ]; }; then bad=1; fi
	[ "$status" -eq 124 ] && echo "stopped after $seconds seconds" >>"$log"
	result "$name" "$log" "$ok" "$bad" "$skip" "$status"
}

run_check() {
	local name=${1#"$BUILD"/} log status=0
	log=$BUILD/$(basename "$1").log
	timeout -k 5 "$seconds" "$1" >"$log" 2>&1 || status=$?
	result "$name" "$log" $((status == 0)) $((status != 0)) 0 "$status"
}

export BUILD
while [ $# -gt 0 ]; do
	if [ "$1" = --check ]; then
		run_check "$2"
		shift
	else
		run_cmocka "$1"
	fi
	shift
done

[ "$skipped" -gt 0 ] && echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
