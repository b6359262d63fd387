/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Load for tests and benchmarks: `generate` turns a template of UDP or TCP over IPv4 into an exact number of frames of known
 * flows and sends them into a network device; `count` is the plainest of receivers, to test `generate` itself with.
 */
#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "testflows.h"

#define COUNTED_FLOWS 65536
#define STEADY_EVERY 16 /* one frame in so many is of a connection that goes on */

#define TCP_FLAGS_AT 13 /* RFC 9293, section 3.1 */
#define TCP_ACK 0x10

volatile const __u32 target;       /* index of the interface that the frames go to */
volatile const __u64 flow_mask;    /* number of flows - 1; the number is a power of two */
volatile const bool shuffled;      /* flows in pseudo-random order, not in turn */
volatile const __u32 steady_flows; /* beside them, TCP connections that go on: a power of two, or 0 */
volatile const __u8 tcp_flags;     /* of the others, where there are any of these */
volatile const __u32 base_address; /* host byte order */
volatile const __u32 header_sum;   /* of the IPv4 header's 16-bit words, source address and checksum left out */

/*
 * Frames sent, and where to stop. The kernel may run the program more often than asked to (a signal makes the system
 * call start over), so the limit is kept here.
 */
__u64 sent;
__u64 limit;

__u64 counted_packets;
__u64 counted_bytes;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTED_FLOWS);
	__type(key, __u32);
	__type(value, __u64);
} counted_flows SEC(".maps");

/* The flow that a frame is of. The same is in generator.go. */
static __u64 flow_of(__u64 i)
{
	if (steady_flows && i % STEADY_EVERY == 0)
		return flow_mask + 1 + i / STEADY_EVERY % steady_flows;
	return (shuffled ? mix(i) : i) & flow_mask;
}

/*
 * Writes every field that differs between flows. Nothing is adjusted from what the frame holds: the kernel hands out
 * used buffers again as they are.
 */
static void write_source(struct frame *frame, __u64 flow)
{
	__u32 address = base_address + (__u32)(flow >> PORT_BITS);
	__u32 sum = header_sum + (address >> 16) + (address & 0xffff);

	sum = (sum & 0xffff) + (sum >> 16); /* RFC 1071 */
	sum = (sum & 0xffff) + (sum >> 16);

	frame->ip.saddr = bpf_htonl(address);
	frame->ip.check = bpf_htons((__u16)~sum);
	frame->udp.source = bpf_htons(FIRST_PORT | (flow & PORT_MASK));
}

/* 0 for a frame that is too short. */
static int write_flags(struct xdp_md *ctx, __u8 flags)
{
	__u8 *at = (void *)(long)ctx->data + sizeof(struct ethhdr) + sizeof(struct iphdr) + TCP_FLAGS_AT;

	if ((void *)(at + 1) > (void *)(long)ctx->data_end)
		return 0;
	*at = flags;
	return 1;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	struct frame *frame = (void *)(long)ctx->data;
	__u64 i = sent;
	__u64 flow = flow_of(i);

	if ((void *)(frame + 1) > (void *)(long)ctx->data_end || i >= limit)
		return XDP_DROP;
	write_source(frame, flow);
	if (steady_flows && !write_flags(ctx, flow > flow_mask ? TCP_ACK : tcp_flags))
		return XDP_DROP;
	sent = i + 1;
	return bpf_redirect(target, 0);
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct frame *frame = (void *)(long)ctx->data;
	__u32 flow;
	__u64 *packets;

	__sync_fetch_and_add(&counted_packets, 1);
	__sync_fetch_and_add(&counted_bytes, end - (void *)frame);
	if ((void *)(frame + 1) > end)
		return XDP_DROP;
	flow = (bpf_ntohl(frame->ip.saddr) - base_address) << PORT_BITS | (bpf_ntohs(frame->udp.source) & PORT_MASK);
	packets = bpf_map_lookup_elem(&counted_flows, &flow);
	if (packets)
		__sync_fetch_and_add(packets, 1);
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual MIT/GPL";
