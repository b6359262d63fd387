/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The packet filter. User space puts the translation of a classic BPF program in the place of match_xdp and match_skb. It
 * reads the frame through load_xdp and load_skb alone. As global functions, all of these are verified once and by
 * themselves: a filter of a hundred hosts makes the programs no harder to verify.
 */
#ifndef WEIR_FILTER_H
#define WEIR_FILTER_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "packet.h"

#define NOT_LOADED (-1) /* the frame ends before */
#define LOAD_MAX 4
#define FRAME_MAX 0xffff /* how far a filter can look, on every kernel */
#define DIRECT_MAX 0x3fff /* offsets that every verifier adds to a packet's pointer */

#define VLAN_TAG_OFFSET 12 /* in a frame, IEEE 802.1Q */

/* The same number, if it is 1 to 4, in a form that every verifier can bound. */
static __always_inline __u32 bounded(__u32 size)
{
	return ((size - 1) & (LOAD_MAX - 1)) + 1;
}

/* The first size bytes of four, as a number. */
static __always_inline __s64 number(__be32 bytes, __u32 size)
{
	return bpf_ntohl(bytes) >> (8 * (LOAD_MAX - size));
}

/* Reads 1 to 4 bytes as a big-endian number. */
__noinline __s64 load_xdp(struct xdp_md *ctx, __u32 offset, __u32 size)
{
	void *end = (void *)(long)ctx->data_end;
	void *from = (void *)(long)ctx->data;
	__be32 bytes = 0;

	size = bounded(size);
	if (offset <= DIRECT_MAX && from + offset + sizeof(bytes) <= end)
		return number(*(__be32 *)(from + offset), size);
	if (bpf_xdp_load_bytes(ctx, offset, &bytes, size))
		return NOT_LOADED;
	return number(bytes, size);
}

/*
 * Reads a byte of the frame as the filter sees it: with the VLAN tag that travels beside it, or, where there is no link layer,
 * with an Ethernet header in front that has nothing but the EtherType.
 */
static __always_inline int byte_at(struct __sk_buff *skb, __u32 at, __u32 outer, __u8 *byte)
{
	__u32 shift = 8 * (VLAN_TAG_OFFSET + VLAN_TAG_LEN - 1 - at);

	*byte = 0;
	if (config.link_layer == LINK_NONE) {
		if (at >= ETH_HLEN)
			return bpf_skb_load_bytes(skb, at - ETH_HLEN + outer, byte, 1);
		if (at >= VLAN_TAG_OFFSET)
			*byte = bpf_ntohs(skb->protocol) >> (shift - 16);
		return 0;
	}
	if (at < VLAN_TAG_OFFSET)
		return bpf_skb_load_bytes(skb, at, byte, 1);
	if (at >= VLAN_TAG_OFFSET + VLAN_TAG_LEN)
		return bpf_skb_load_bytes(skb, at - VLAN_TAG_LEN, byte, 1);
	*byte = (bpf_ntohs(skb->vlan_proto) << 16 | (skb->vlan_tci & 0xffff)) >> shift;
	return 0;
}

/* Reads where not all of the bytes may be in the skb. */
static __always_inline __s64 load_beside(struct __sk_buff *skb, __u32 offset, __u32 size, __u32 outer)
{
	__u32 value = 0;
	__u32 i;

	/* Unrolled: Linux 6.1 loses the bound of a loop that ends at size. */
#pragma unroll
	for (i = 0; i < LOAD_MAX; i++) {
		__u8 byte;

		if (i == size)
			break;
		if (byte_at(skb, offset + i, outer, &byte))
			return NOT_LOADED;
		value = value << 8 | byte;
	}
	return value;
}

/* The same, of an skb of which the first outer bytes are not the frame's. */
__noinline __s64 load_skb(struct __sk_buff *skb, __u32 offset, __u32 size, __u32 outer)
{
	void *end = (void *)(long)skb->data_end;
	void *from = (void *)(long)skb->data;
	__be32 bytes = 0;

	if (offset > FRAME_MAX) /* or adding outer might wrap */
		return NOT_LOADED;
	size = bounded(size);
	if (config.link_layer == LINK_NONE) {
		if (offset < ETH_HLEN)
			return load_beside(skb, offset, size, outer);
		offset += outer - ETH_HLEN;
	} else if (skb->vlan_present) {
		if (offset < VLAN_TAG_OFFSET + VLAN_TAG_LEN)
			return load_beside(skb, offset, size, outer);
		offset -= VLAN_TAG_LEN;
	}
	if (offset <= DIRECT_MAX && from + offset + sizeof(bytes) <= end)
		return number(*(__be32 *)(from + offset), size);
	if (bpf_skb_load_bytes(skb, offset, &bytes, size))
		return NOT_LOADED;
	return number(bytes, size);
}

/*
 * Whether a frame of so many bytes matches. What stands here is never run: it brings in what the filter calls. Weak, so that
 * the compiler believes nothing of it.
 */
__weak int match_xdp(struct xdp_md *ctx, __u32 len)
{
	return load_xdp(ctx, len, LOAD_MAX);
}

__weak int match_skb(struct __sk_buff *skb, __u32 len, __u32 outer)
{
	return load_skb(skb, len, LOAD_MAX, outer);
}

#endif
