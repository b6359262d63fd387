/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Load for tests and benchmarks: `talk` sends the frames of a TCP conversation over and over, each time of another client. */
#include <linux/bpf.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "testflows.h"

#define STEPS_MAX 16
#define FRAME_MAX 1514

/* A frame of the conversation, without options of IP. */
struct step {
	__u32 len;
	__u32 answer; /* it is the server's */
	__u8 frame[FRAME_MAX];
	__u8 pad[2];
};

struct headers {
	struct ethhdr eth;
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed));

volatile const __u32 target;	   /* index of the interface that the frames go to */
volatile const __u32 base_address; /* of the first clients, host byte order */
volatile const __u32 step_count = 1;

/* Frames sent, and where to stop: see testgen.bpf.c. */
__u64 sent;
__u64 limit;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEPS_MAX);
	__type(key, __u32);
	__type(value, struct step);
} steps SEC(".maps");

/* Writes who the client is. Nobody looks at checksums. */
static int write_client(struct xdp_md *ctx, __u64 client, __u32 answer)
{
	struct headers *h = (void *)(long)ctx->data;
	__u32 address = bpf_htonl(base_address + (__u32)(client >> PORT_BITS));
	__u16 port = bpf_htons(FIRST_PORT | (client & PORT_MASK));

	if ((void *)(h + 1) > (void *)(long)ctx->data_end)
		return -1;
	if (answer) {
		h->ip.daddr = address;
		h->tcp.dest = port;
	} else {
		h->ip.saddr = address;
		h->tcp.source = port;
	}
	return 0;
}

SEC("xdp")
int talk(struct xdp_md *ctx)
{
	__u64 i = sent;
	__u32 number = i % step_count;
	struct step *step = bpf_map_lookup_elem(&steps, &number);
	__u32 len;

	if (!step || i >= limit)
		return XDP_DROP;
	len = step->len;
	if (len < sizeof(struct headers) || len > FRAME_MAX)
		return XDP_DROP;
	if (bpf_xdp_adjust_tail(ctx, (int)len - (int)bpf_xdp_get_buff_len(ctx)) ||
	    bpf_xdp_store_bytes(ctx, 0, step->frame, len) || write_client(ctx, i / step_count, step->answer))
		return XDP_DROP;
	sent = i + 1;
	return bpf_redirect(target, 0);
}

char _license[] SEC("license") = "Dual MIT/GPL";
