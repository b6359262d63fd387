/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Settings. User space writes them before loading, and the verifier takes what is off out of the programs. */
#ifndef WEIR_CONFIG_H
#define WEIR_CONFIG_H

#include <linux/types.h>

/* What the frames of the interfaces begin with that a set of programs is attached to. */
enum link_layer {
	LINK_ETHERNET,
	LINK_NONE, /* the IP header, or whatever skb->protocol says */
};

struct settings {
	__u32 sampling;   /* one in so many packets is counted, at random */
	__u32 vlan_zones; /* equal connections in separate VLANs are separate */
	__u32 replay;     /* frames are of a capture, and say when, where and how long they were */
	__u32 filter;     /* frames that match_xdp or match_skb does not match are not counted */
	__u32 decap;	  /* tunnels whose contents are counted: a bit for each enum tunnel_kind */
	__be16 vxlan_port;
	__be16 geneve_port;
	__be16 gtpu_port;
	__u16 pad;
	__u32 netns;      /* number of the interfaces' network namespace */
	__u32 link_layer; /* enum link_layer */
	__u32 tick_ns;    /* between two ticks of the kernel */
	__u32 samples;    /* what is copied of packets: enum wanted */
	__u32 sample_ns;  /* a CPU copies a piece in so many ns, with a second's worth at a time; 0: there is no limit */
	__u32 buckets;    /* of the map `tags` */
};

volatile const struct settings config = {.sampling = 1, .buckets = 1};

/*
 * The key of the hash by which connections find their slots: random, for their addresses are chosen by others. It is in a map
 * of its own, that goes with the map `flows`.
 */
struct secret {
	__u64 start;
	__u64 words[10]; /* one for each 32 bits of a flow_key */
};

volatile const struct secret secret SEC(".rodata.secret") = {};

#endif
