#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Who may look at whom: each source's #include lines against the list of permitted arrows. What isn't
# listed is a fault.
set -u
bad=0

# may DIR ARROW...: which headers, as written between quotes or brackets, the sources of DIR may include.
freestanding='<(stdint|stddef|stdbool|stdatomic|stdarg|limits)\.h>'
may() {
	local dir=$1 allowed header
	shift
	[ -d "$dir" ] || return
	allowed=$(IFS='|'; echo "$*")
	while IFS=: read -r file line text; do
		[[ $text =~ ^[[:space:]]*#[[:space:]]*include[[:space:]]*([\<\"][^\>\"]*[\>\"]) ]] || continue
		header=${BASH_REMATCH[1]}
		[[ $header =~ ^($allowed)$ ]] && continue
		echo "$file:$line: $dir may not include $header"
		bad=1
	done < <(find "$dir" -maxdepth "${depth:-99}" -name '*.[ch]' -exec grep -HnE '^[[:space:]]*#[[:space:]]*include' {} +)
}
mmu() { # "mmu/a/..." for each room named
	local rooms
	rooms=$(IFS='|'; echo "$*")
	echo "\"mmu/($rooms)/[^\"]*\""
}

api='<triptych/(types|aging|dirty|platform|memslot|fault|event|external|nx|stats|spte|vm|triptych)\.h>'
system='<[a-z0-9_/.-]+\.h>'

# Inside the library: vm -> shadow, range -> fault -> tree -> mirror -> pte; those four -> slots.
may include/triptych "$freestanding" '<triptych/[a-z]+\.h>'
may mmu/base   "$freestanding" "$api" "$(mmu base)" '<sys/sdt\.h>'
may mmu/pte    "$freestanding" "$api" "$(mmu pte)"
may mmu/mirror "$freestanding" "$api" "$(mmu base mirror pte)"
may mmu/tree   "$freestanding" "$api" "$(mmu base tree mirror pte)"
may mmu/slots  "$freestanding" "$api" "$(mmu base slots)"
may mmu/fault  "$freestanding" "$api" "$(mmu base fault tree mirror pte slots)"
may mmu/range  "$freestanding" "$api" "$(mmu base range fault tree mirror pte slots)"
may mmu/shadow "$freestanding" "$api" "$(mmu base shadow fault tree mirror pte slots)"
may mmu/vm     "$freestanding" "$api" "$(mmu base vm shadow range fault tree mirror pte slots)"

# Around it. The judges share no code with the judged, nor with each other; the hypervisor's guests know of
# it what a guest can ask.
may platform/bare  "$freestanding" '<triptych/(types|platform|bare)\.h>' '"platform/bare/[^"]*"'
may platform/posix '<triptych/(types|platform|posix)\.h>' "$system" '"platform/posix/[^"]*"'
depth=1 may hypervisor "$freestanding" '<elf\.h>' "$api" '<triptych/bare\.h>' '"hypervisor/[a-z]+\.h"'
may hypervisor/user "$system" '"hypervisor/abi\.h"'
may tests/boot/guest "$freestanding" '"hypervisor/abi\.h"' '"tests/boot/guest/[^"]*"'
may machine        "$system" '"machine/[^"]*"' '"tdx/port\.h"'
may tdx/module     "$system" '"tdx/module/[^"]*"' '"tdx/port\.h"' '"tdx/seamcall\.h"'
may tdx/host       "$api" "$system" '"tdx/host/[^"]*"' '"tdx/seamcall\.h"'
may bench          "$api" "$system" '"(bench|mmu/[a-z]+)/[^"]*"'
may cli            "$system" '"(bench|cli|machine|tdx/host|tdx/module)/[^"]*"' '"tdx/(port|seamcall)\.h"'
may examples       "$system"

# A bracket include in machine or tdx/module could still name the library.
if grep -rnE '<triptych/' machine tdx/module 2>/dev/null; then
	echo "the models may not include the library's headers"
	bad=1
fi
exit $bad
