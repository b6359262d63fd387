/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Load for tests and benchmarks: `generate` turns a UDP/IPv4 template into an exact number of frames of known flows and
 * sends them into a network device; `count` is the plainest of receivers, to test `generate` itself with.
 */
#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "testflows.h"

#define COUNTED_FLOWS 65536

volatile const __u32 target;       /* index of the interface that the frames go to */
volatile const __u64 flow_mask;    /* number of flows - 1; the number is a power of two */
volatile const bool shuffled;      /* flows in pseudo-random order, not in turn */
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

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	struct frame *frame = (void *)(long)ctx->data;
	__u64 i = sent;

	if ((void *)(frame + 1) > (void *)(long)ctx->data_end || i >= limit)
		return XDP_DROP;
	write_source(frame, (shuffled ? mix(i) : i) & flow_mask);
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
