// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The kernel side of weir. A packet passes one of the first three programs: filter, parse, account, settle. User space
 * runs the last two to have finished entries handed over as records. No program ever drops or changes a packet.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "account.h"
#include "clock.h"
#include "config.h"
#include "deep.h"
#include "filter.h"
#include "handover.h"
#include "ledger.h"
#include "maps.h"
#include "parse.h"
#include "sample.h"

#define SEGMENTS_MAX 65535
#define OUTER_MAX 64 /* IPv6 and GRE with every option: 40 + 16 */

/* TC_ACT_UNSPEC: go on with whatever comes after weir. It means the same to TCX, as TCX_NEXT. */
#define TC_NEXT (-1)

static __always_inline __u32 place(__u32 ifindex, enum hook hook)
{
	return ifindex << OWNER_SHIFT | hook;
}

static __always_inline void count(struct ledger_page *page, enum hook hook, enum fate fate, struct packet *p,
				  const struct weight *w, __u32 ifindex)
{
	if (fate == FATE_COUNTED && config.sampling > 1 && bpf_get_prandom_u32() % config.sampling)
		fate = FATE_NOT_SAMPLED;
	if (fate == FATE_COUNTED)
		fate = account(page, p, w, place(ifindex, hook));
	if (fate == FATE_COUNTED && p->unopened)
		page->unopened += w->packets;
	settle(page, hook, fate, w);
}

static __always_inline enum fate parse_xdp(struct xdp_md *ctx, __u32 frame_len, struct packet *p)
{
	struct headers *h;

	if (parse_quick((void *)(long)ctx->data, (void *)(long)ctx->data_end, p))
		return FATE_COUNTED;
	h = headers();
	if (!h)
		return FATE_NO_MEMORY;
	if (bpf_xdp_load_bytes(ctx, 0, h->bytes, prepare(h, frame_len)))
		return FATE_TRUNCATED;
	return parse_deep(h, p);
}

SEC("xdp.frags")
int xdp_ingress(struct xdp_md *ctx)
{
	struct ledger_page *page = ledger_page();
	struct weight w = {.packets = 1, .bytes = bpf_xdp_get_buff_len(ctx)};
	struct packet p = {};
	enum fate fate;

	if (page) {
		if (config.filter && !match_xdp(ctx, w.bytes))
			fate = FATE_FILTERED;
		else
			fate = parse_xdp(ctx, w.bytes, &p);
		count(page, HOOK_XDP_INGRESS, fate, &p, &w, ctx->ingress_ifindex);
		if (config.samples && p.sampled)
			sample_xdp(ctx, &p);
	}
	return XDP_PASS;
}

/*
 * The bytes in front of the network header on an interface without a link layer: 0, but for packets that a tunnel has
 * unpacked, of which tc sees the outer headers again. The kernel does not say where the network header is; but counted from
 * there, it lets be read as many bytes as the frame has behind it.
 */
static __always_inline __u32 outer_len(struct __sk_buff *skb)
{
	__u32 linear = (void *)(long)skb->data_end - (void *)(long)skb->data;
	__u32 len;
	__u8 byte;

	for (len = 0; len <= OUTER_MAX && len < linear; len += 4)
		if (!bpf_skb_load_bytes_relative(skb, linear - len - 1, &byte, 1, BPF_HDR_START_NET))
			return len;
	return 0;
}

/* Parses what is behind the first outer bytes of an skb. */
static __always_inline enum fate parse_skb(struct __sk_buff *skb, __u32 outer, struct packet *p)
{
	struct headers *h;

	if (skb->vlan_present)
		p->vlan = skb->vlan_tci & VLAN_ID_MASK;
	if (config.link_layer == LINK_NONE)
		p->ethertype = skb->protocol;
	p->super_len = skb->gso_size ? skb->len - outer : 0;
	if (!outer && parse_quick((void *)(long)skb->data, (void *)(long)skb->data_end, p))
		return FATE_COUNTED;
	h = headers();
	if (!h)
		return FATE_NO_MEMORY;
	if (bpf_skb_load_bytes(skb, outer, h->bytes, prepare(h, skb->len - outer)))
		return FATE_TRUNCATED;
	return parse_deep(h, p);
}

/* How long a frame is to the filter. A super-packet is one frame. */
static __always_inline __u32 frame_len(struct __sk_buff *skb, __u32 outer)
{
	if (config.replay)
		return skb->mark;
	return skb->len - outer + (skb->vlan_present ? VLAN_TAG_LEN : 0);
}

/* So many segments as a super-packet can have: gso_segs has 16 bits, and flow_entry.count room for no more at a time. */
static __always_inline __u32 segments(__u32 n)
{
	return n < 1 ? 1 : n < SEGMENTS_MAX ? n : SEGMENTS_MAX;
}

static __always_inline __u32 less(__u32 from, __u32 n)
{
	return from > n ? from - n : 0;
}

/*
 * What an skb weighs on the wire. A GSO or GRO super-packet stands for gso_segs frames, each with a copy of its headers; on
 * egress the kernel has added those up in wire_len. A VLAN tag that travels beside the frame counts too. The first outer bytes
 * of the skb do not count. Of a super-packet that is not counted because of its headers, at most those in front of the fault
 * are known: its segments weigh less than they did. Of a captured frame the skb may be the beginning only, and has its length
 * as a mark.
 */
static __always_inline struct weight weigh(struct __sk_buff *skb, enum hook hook, __u32 outer, __u32 header_len)
{
	struct weight w = {.packets = 1, .bytes = skb->len - outer};
	__u32 size = skb->gso_size;

	if (config.replay) {
		w.bytes = skb->mark;
		return w;
	}
	if (size) {
		if (header_len > w.bytes) /* by its own account only: such a frame is one */
			header_len = w.bytes;
		w.packets = skb->gso_segs;
		if (!w.packets) /* from a guest or a tun device the kernel takes no count on trust */
			w.packets = segments((w.bytes - header_len + size - 1) / size);
		if (hook == HOOK_TC_EGRESS)
			w.bytes = less(skb->wire_len, w.packets * outer);
		else
			w.bytes += (w.packets - 1) * header_len;
	}
	if (skb->vlan_present)
		w.bytes += w.packets * VLAN_TAG_LEN;
	return w;
}

/* In a replay, user space runs this on frames of a capture: tstamp says when, and priority on which of its interfaces. */
static __always_inline int tc(struct __sk_buff *skb, enum hook hook)
{
	struct ledger_page *page = ledger_page();
	struct packet p = {};
	__u32 ifindex = skb->ifindex;
	struct weight w;
	enum fate fate;
	__u32 outer;

	barrier_var(ifindex); /* or clang reads at an offset that depends, which the verifier refuses of a context */
	if (page) {
		if (config.replay) {
			captured_ns = skb->tstamp;
			ifindex = skb->priority;
		}
		outer = config.link_layer == LINK_NONE ? outer_len(skb) : 0;
		p.filtered = config.filter && !match_skb(skb, frame_len(skb, outer), outer);
		if (!p.filtered || skb->gso_size) /* a super-packet is weighed by its headers */
			fate = parse_skb(skb, outer, &p);
		if (p.filtered)
			fate = FATE_FILTERED;
		w = weigh(skb, hook, outer, p.header_len);
		p.outer = outer;
		count(page, hook, fate, &p, &w, ifindex);
		if (config.samples && p.sampled)
			sample_skb(skb, &p);
	}
	return TC_NEXT;
}

SEC("tc")
int tc_ingress(struct __sk_buff *skb)
{
	return tc(skb, HOOK_TC_INGRESS);
}

SEC("tc")
int tc_egress(struct __sk_buff *skb)
{
	return tc(skb, HOOK_TC_EGRESS);
}

/*
 * Walks a piece of the map, so that no run keeps a CPU for long, and hands over what is due. Stops when the ring is full, with
 * args->stopped set.
 */
SEC("syscall")
int sweep(struct sweep_args *args)
{
	struct sweep_args walk = *args; /* a callback cannot be given the context itself */

	walk.tick = tick_at(args->now_ns);
	bpf_for_each_map_elem(&steps, sweep_word, &walk, 0);
	args->stopped = walk.stopped;
	args->resident_flows = walk.resident_flows;
	args->resident_packets = walk.resident_packets;
	args->resident_bytes = walk.resident_bytes;
	args->next_due_ns = walk.next_due_ns;
	return 0;
}

/* Hands over the closed connections named in the map `taking`. */
SEC("syscall")
int take(struct take_args *args)
{
	struct take_args progress = {.count = args->count};

	bpf_for_each_map_elem(&taking, take_key, &progress, 0);
	args->done = progress.done;
	return 0;
}

/* Returns the kernel's tick, in which flow_half.last is told. */
SEC("syscall")
int tick(void *ctx)
{
	return tick_at(captured_ns);
}

/* Never read: it brings the types that no map and no program names into the object's BTF, where bpf2go looks for them. */
const struct {
	struct record record;
	struct closing closing;
	struct opened_record opened_record;
	struct lengths lengths;
	enum wanted wanted;
	enum sample_kind sample_kind;
	enum hook hook;
	enum fate fate;
	enum handover handover;
	enum flow_state state;
	enum meter_shift meter_shift;
	enum tunnel_kind tunnel_kind;
	enum link_layer link_layer;
} abi_types = {};

char _license[] SEC("license") = "Dual MIT/GPL";
