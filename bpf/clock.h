/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What time it is for a packet: the kernel's, or in a replay that of the capture. */
#ifndef WEIR_CLOCK_H
#define WEIR_CLOCK_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "config.h"

/* In a replay: when the packet came. There is one at a time. */
__u64 captured_ns;

static __always_inline __u64 precise_ns(void)
{
	return config.replay ? captured_ns : bpf_ktime_get_ns();
}

/* Good to a tick, at less than half the cost. */
static __always_inline __u64 coarse_ns(void)
{
	return config.replay ? captured_ns : bpf_ktime_get_coarse_ns();
}

#endif
