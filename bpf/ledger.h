/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Where everything is booked that a packet's program run does. */
#ifndef WEIR_LEDGER_H
#define WEIR_LEDGER_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "maps.h"

/* What one program run adds: a frame, or a super-packet that stands for several. */
struct weight {
	__u32 packets;
	__u32 bytes;
};

static __always_inline struct ledger_page *ledger_page(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ledger, &zero);
}

/* One CPU's page is written by one program at a time, so these adds need no atomics. */
static __always_inline void add(struct counter *c, const struct weight *w)
{
	c->packets += w->packets;
	c->bytes += w->bytes;
}

/* The only way out of the packet path: what was seen and what became of it, in the same run. */
static __always_inline void settle(struct ledger_page *page, enum hook hook, enum fate fate, const struct weight *w)
{
	add(&page->seen[hook], w);
	if (fate < FATES)
		add(&page->fates[fate], w);
}

#endif
