/* SPDX-License-Identifier: BSD-2-Clause */
/* All of the library's public headers. */
#ifndef TRIPTYCH_TRIPTYCH_H
#define TRIPTYCH_TRIPTYCH_H

#include <triptych/aging.h>
#include <triptych/dirty.h>
#include <triptych/event.h>
#include <triptych/external.h>
#include <triptych/fault.h>
#include <triptych/memslot.h>
#include <triptych/nx.h>
#include <triptych/platform.h>
#include <triptych/spte.h>
#include <triptych/stats.h>
#include <triptych/types.h>
#include <triptych/vm.h>

#endif
