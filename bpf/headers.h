/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A copy of the beginning of a frame, how headers are taken from it, one after the other, and what they say of the way. */
#ifndef WEIR_HEADERS_H
#define WEIR_HEADERS_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"

#define HEADERS_MAX 256

/* Where in its datagram a packet stands. */
enum fragment {
	FRAGMENT_NONE,
	FRAGMENT_FIRST, /* with the transport header */
	FRAGMENT_LATER, /* without */
};

/* What was read of a packet on the way to its transport header. */
struct route {
	__u8 addr[2][16]; /* source, destination */
	__u32 payload_len; /* bytes the IP header promises behind itself; PAYLOAD_UNKNOWN if it does not say */
	__u32 fragment_id;
	__u32 end; /* where in the frame the packet ends, by its own account; PAYLOAD_UNKNOWN if it does not say */
	__u8 protocol;
	__u8 fragment; /* enum fragment */
	__u8 ipv4;
	__u8 ttl;
};

struct headers {
	__u32 pos;
	__u32 len;  /* bytes copied */
	__u32 more; /* the frame is longer than that */
	__u32 pad;
	__u8 bytes[HEADERS_MAX];
	struct route route; /* here, for there is not enough room on the stack */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct headers);
	__uint(max_entries, 1);
} scratch SEC(".maps");

/* Makes room for a copy of the first bytes of a frame, and says how many: 1 to HEADERS_MAX. */
static __always_inline __u32 prepare(struct headers *h, __u32 frame_len)
{
	__u32 len = frame_len < HEADERS_MAX ? frame_len : HEADERS_MAX;

	h->len = len;
	h->more = frame_len > len;
	return ((len - 1) & (HEADERS_MAX - 1)) + 1; /* the same number, in a form that every verifier can bound */
}

static __always_inline struct headers *headers(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/* What comes next in a frame. */
enum layer {
	LAYER_NONE,
	LAYER_FRAME, /* whatever the interface's frames begin with */
	LAYER_LINK,  /* Ethernet */
	LAYER_IPV4,
	LAYER_IPV6,
};

/* Why a header could not be taken. */
static __always_inline enum fate short_of(const struct headers *h)
{
	return h->more ? FATE_UNSUPPORTED : FATE_TRUNCATED;
}

static __always_inline void *deep_take(struct headers *h, __u32 len)
{
	__u32 pos = h->pos;

	barrier_var(pos); /* or the compiler checks one register and reads by another */
	if (pos > HEADERS_MAX - len || pos + len > h->len)
		return 0;
	h->pos = pos + len;
	return &h->bytes[pos];
}

static __always_inline int deep_skip(struct headers *h, __u32 len)
{
	if (len > HEADERS_MAX || h->pos + len > h->len)
		return 0;
	h->pos += len;
	return 1;
}

/* Says which IP the next header is of, by its version, and takes nothing. */
static __always_inline enum layer deep_ip_version(struct headers *h)
{
	__u8 *version = deep_take(h, 1);

	if (!version)
		return LAYER_NONE;
	h->pos -= 1;
	switch (*version >> 4) {
	case 4:
		return LAYER_IPV4;
	case 6:
		return LAYER_IPV6;
	}
	return LAYER_NONE;
}

#endif
