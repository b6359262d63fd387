/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The datagrams in transit: only the first fragment says which flow it belongs to, and teaches the others. */
#ifndef WEIR_FRAGMENTS_H
#define WEIR_FRAGMENTS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "clock.h"

/* RFC 791 section 3.2 (with the protocol), RFC 8200 section 4.5 (without). */
struct datagram {
	__u8 addr[2][16]; /* source, destination */
	__u32 id;
	__u16 zone;
	__u8 protocol; /* IPv4 only */
	__u8 netns;
} __attribute__((aligned(8)));

/* Identifications come again: what the first fragment of an earlier datagram said is soon forgotten. */
#define FRAGMENT_TIMEOUT_NS NS_PER_SECOND

struct datagram_flow {
	__u64 seen_ns;
	__be16 port[2]; /* source, destination */
	__u8 protocol;
	__u8 pad[3];
};

/* Datagrams whose first fragment was seen. The oldest make room for new ones. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct datagram);
	__type(value, struct datagram_flow);
	__uint(max_entries, 8192);
} fragments SEC(".maps");

#endif
