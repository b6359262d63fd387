/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What time it is for a packet: the kernel's, or in a replay that of the capture. */
#ifndef WEIR_CLOCK_H
#define WEIR_CLOCK_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "config.h"

#define NS_PER_SECOND 1000000000ULL

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

/* The kernel's ticks: next to nothing to ask for. In a replay, of the same length. */
static __always_inline __u32 tick_at(__u64 replay_ns)
{
	return config.replay ? replay_ns / config.tick_ns : bpf_jiffies64();
}

/*
 * For how many ticks a direction has been quiet. A packet that came after a sweep had begun, or in a replay one that is older
 * than the last, finds itself before that: by less than AHEAD.
 */
#define AHEAD (1U << 20)

static __always_inline __u32 quiet(__u32 tick, const struct flow_half *half)
{
	__u32 ticks = tick - half->last;

	return ticks < -AHEAD ? ticks : 0;
}

#endif
