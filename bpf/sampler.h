/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What copying from packets takes: what is known of the packet at hand, the rate, and the ring `samples`. */
#ifndef WEIR_SAMPLER_H
#define WEIR_SAMPLER_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "account.h"
#include "clock.h"
#include "config.h"
#include "packet.h"

#define PEEK_MAX 128 /* a TCP header with every option, and what shows what is behind it */
#define BURST_NS NS_PER_SECOND
#define PIECE_LEN 1500 /* what is longer, of a super-packet, counts as several: its end is searched for byte by byte */

/* A search in the copy for the empty line that ends the head of a request. */
struct search {
	__u32 len;     /* bytes of the copy */
	__u32 from;    /* where in the copy it begins: what is before that was searched in another one */
	__u32 in_turn; /* the copy does not come before its turn */
	__u32 line;    /* enum line: how what was searched ends */
	__u32 end;     /* where in the copy the head ends; 0: it goes on */
	__u32 another; /* there another request begins */
};

struct sampler {
	struct flow_key key; /* of the packet: the kernel takes keys from memory of its own, and not from a caller's */
	__u32 slot; /* index of its entry */
	__u64 now_ns;
	__u64 due_ns;  /* when this CPU's next copy is due, by the rate that is set */
	__u32 state;   /* flow_entry.state */
	__u32 settled; /* bits to set there, */
	__u32 renewed; /* after those of STATE_SAMPLED were cleared */
	__u32 peeked;  /* bytes in peek */
	__u32 payload; /* bytes behind the transport header */
	__u32 there;   /* of these, what the frame has */
	__u32 segment; /* of these, what each packet has that a super-packet stands for; else 0 */
	__u32 offset;  /* in its message, of the piece of a stream that is copied, */
	__u32 at;      /* and in the payload */
	__u32 follow;  /* the copy may show where the message ends */
	struct search search;
	__u8 peek[PEEK_MAX]; /* a segment from its transport header on, or the beginning of a datagram's payload */
	struct handshake handshake;
	struct sample sample;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct sampler);
	__uint(max_entries, 1);
} sampler SEC(".maps");

/* struct sample, as long as it is, and struct lengths. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* set at load */
} samples SEC(".maps");

static __always_inline struct sampler *sampler_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&sampler, &zero);
}

/* So many bytes, which are 1 to max, a power of two, in a form that every verifier can bound. */
static __always_inline __u32 bounded_to(__u32 len, __u32 max)
{
	if (len > max)
		len = max;
	barrier_var(len); /* or the compiler, which knows better, leaves the form out */
	return ((len - 1) & (max - 1)) + 1;
}

/* That a SYN is no repetition: it begins another connection in the entry, of which nothing was copied. */
static __always_inline void renew(struct sampler *s)
{
	s->renewed = 1;
	s->state &= ~STATE_SAMPLED;
}

/* That the sender's packets are done with. */
static __always_inline void settle_end(struct sampler *s, const struct packet *p)
{
	s->settled |= STATE_SAMPLED_0 << p->from;
}

static __always_inline void describe(struct sample_head *head, const struct sampler *s, const struct packet *p,
				     enum sample_kind kind, __u32 len)
{
	head->key = s->key;
	head->time_ns = s->now_ns;
	head->len = len;
	head->kind = kind;
	head->end = p->from;
	head->ttl = p->ttl;
	head->opened = s->state & STATE_OPENED;
}

/* Whether this CPU may copy so many bytes now: a virtual clock that each piece puts forward is not ahead by more than the burst. */
static __always_inline int within_rate(struct sampler *s, __u32 len)
{
	__u64 due = later(s->due_ns, s->now_ns);
	struct ledger_page *page;

	if (!config.sample_ns)
		return 1;
	if (due - s->now_ns <= BURST_NS) {
		s->due_ns = due + (__u64)config.sample_ns * ((len + PIECE_LEN - 1) / PIECE_LEN);
		return 1;
	}
	page = ledger_page();
	if (page)
		page->samples_limited++;
	return 0;
}

/* User space looks in at its own pace, as with `closed`. */
static __always_inline void put(void *data, __u64 len)
{
	struct ledger_page *page = ledger_page();

	if (!page)
		return;
	if (bpf_ringbuf_output(&samples, data, len, BPF_RB_NO_WAKEUP))
		page->samples_full++;
	else
		page->samples++;
}

#endif
