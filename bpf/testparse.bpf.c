/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Both parsers on one frame, for tests: what the quick one takes, the thorough one has to read the same. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "deep.h"
#include "parse.h"

enum comparison {
	COMPARISON_FAILED,
	COMPARISON_LEFT, /* the quick one left the frame to the thorough one */
	COMPARISON_EQUAL,
	COMPARISON_DIFFERENT,
};

static int equal(const struct packet *a, const struct packet *b)
{
	const __u64 *x = (const void *)&a->key, *y = (const void *)&b->key;
	__u32 i;

	for (i = 0; i < sizeof(a->key) / sizeof(*x); i++)
		if (x[i] != y[i])
			return 0;
	return a->from == b->from && a->tcp_flags == b->tcp_flags && a->header_len == b->header_len &&
	       a->vlan == b->vlan && a->transport == b->transport && a->payload_len == b->payload_len &&
	       a->ttl == b->ttl;
}

SEC("tc")
int compare(struct __sk_buff *skb)
{
	struct packet quick = {}, thorough = {};
	struct headers *h = headers();

	if (!h)
		return COMPARISON_FAILED;
	if (!parse_quick((void *)(long)skb->data, (void *)(long)skb->data_end, &quick))
		return COMPARISON_LEFT;
	if (bpf_skb_load_bytes(skb, 0, h->bytes, prepare(h, skb->len)))
		return COMPARISON_FAILED;
	if (parse_deep(h, &thorough) != FATE_COUNTED || !equal(&quick, &thorough))
		return COMPARISON_DIFFERENT;
	return COMPARISON_EQUAL;
}

/* Never read: it brings the type that no map and no program names into the object's BTF, where bpf2go looks for it. */
const struct {
	enum comparison comparison;
} test_types = {};

char _license[] SEC("license") = "Dual MIT/GPL";
