// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A mix of flows for benchmarks, which run a program on one frame over and over: `mix_xdp` and `mix_tc` make it one of another
 * flow and hand it to the program that is measured. Every other flow has the higher end for its source.
 */
#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "testflows.h"

#define LOWER_END 0x0a000000u  /* 10.0.0.0 */
#define HIGHER_END 0xc6120000u /* 198.18.0.0 */

volatile const __u64 flow_mask; /* number of flows - 1; the number is a power of two */

enum arrangement {
	IN_TURN,
	SHUFFLED, /* in pseudo-random order, each as likely as any other */
	IN_ORDER, /* of the map `order`, over and over */
};

enum arrangement arranged;

__u64 made; /* frames */

#define ORDER_LEN (1u << 20)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ORDER_LEN);
	__type(key, __u32);
	__type(value, __u32);
} order SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} measured SEC(".maps");

/* Checksums stay wrong: nobody looks at them. */
static __always_inline void next_flow(struct frame *frame, void *end)
{
	__u64 flow = made++;

	if ((void *)(frame + 1) > end)
		return;
	if (arranged == SHUFFLED) {
		flow = mix(flow);
	} else if (arranged == IN_ORDER) {
		__u32 at = flow % ORDER_LEN;
		__u32 *next = bpf_map_lookup_elem(&order, &at);

		flow = next ? *next : 0;
	}
	flow &= flow_mask;
	frame->ip.saddr = bpf_htonl((flow & 1 ? HIGHER_END : LOWER_END) + (__u32)(flow >> PORT_BITS));
	frame->udp.source = bpf_htons(FIRST_PORT | (flow & PORT_MASK));
}

SEC("xdp.frags")
int mix_xdp(struct xdp_md *ctx)
{
	next_flow((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	bpf_tail_call(ctx, &measured, 0);
	return XDP_ABORTED;
}

SEC("tc")
int mix_tc(struct __sk_buff *skb)
{
	next_flow((void *)(long)skb->data, (void *)(long)skb->data_end);
	bpf_tail_call(skb, &measured, 0);
	return -1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
