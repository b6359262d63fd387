/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The table of connections. A connection is in one of two buckets, which a hash of its key says; nearly always in the first. A
 * bucket is BUCKET_SLOTS slots of the map `flows` and, in the map `tags`, a byte for each: its tag, eight bits of the hash, or
 * 0 if it is free. Which slot of its bucket a connection gets, if that is free, the hash says too: its home, where a lookup looks
 * first, so that most packets wait for memory once. It asks for the tags at the same time, which say where else to look.
 *
 * CPUs agree about a slot by its tag, in a word of eight, and by LIVE, in the counters of both directions:
 *
 *	tag	LIVE
 *	0	no	free
 *	set	no	being made or taken away, by one CPU, which is the only one to write to it
 *	set	yes	counts
 *
 * To make an entry, a CPU that has found the connection in neither bucket sets the tag of a free slot by compare-and-swap of
 * the word that it looked at, and then looks whether the other words of both buckets are what they were. If another CPU has made
 * or deleted an entry there, it may have been of this connection: then the slot is freed and all begins anew. Of two CPUs that
 * make the same connection, one at least finds the other's tag, unless that is where an equal one was a moment ago: then the
 * connection has two entries, of which each packet is in one. Otherwise the CPU writes key and entry, and exchanges the counters
 * for LIVE, that of end 0 last.
 *
 * To hand an entry over or to take it away, a CPU holds it: it sets STATE_HELD by an atomic OR, and leaves the slot alone if
 * that was set, or if what it then finds is not LIVE. Nobody else can take the entry away before it lets go, so that what it
 * reads is of one connection. Who makes an entry leaves that bit as it is, for its holder may have come to an empty slot. To
 * take the entry away, a CPU exchanges both counters for 0: what it exchanged is what was counted. It then frees the slot by an
 * atomic AND of the tag.
 *
 * To count, a CPU adds to a counter. If that was LIVE before, the packet is in the entry, and whoever takes it away has it. If
 * not, the packet is not counted there; what it added is junk, which ends with the exchange that makes the next entry. So every
 * packet is in one entry or in none, and who counted it knows.
 *
 * A slot with the right tag that is not LIVE may be that of the connection: a CPU that finds one looks again, LOOKS times,
 * which takes longer than to make an entry or to take one away, unless the CPU that does so is interrupted.
 *
 * One thing can go wrong for a packet and not for the sums. A slot can get another connection between the comparison of its key
 * and the last of what the packet writes: it is counted in that, or its TCP flags, its time, its part in the opening or the
 * close, or its place as the owner of a direction are noted there.
 */
#ifndef WEIR_TABLE_H
#define WEIR_TABLE_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "clock.h"
#include "config.h"
#include "maps.h"
#include "meter.h"

#define LOOKS 32

/* With fewer free slots than that in the first bucket, a connection may go to the second. */
#define CROWDED 5

/* What a look can find, besides a slot. */
#define ABSENT (-1)
#define BUSY (-2)

/*
 * Multilinear-HM (D. Lemire, O. Kaser: Strongly universal string hashing is fast, 2014) adds up a connection, so that without
 * the secret nobody can choose two whose sums begin alike more often than by chance. Of a sum, all bits then have a say in all
 * that is made of it, or the ports of one host, which follow one another, would fill some buckets and leave out others.
 */
static __always_inline __u64 hash_of(const struct flow_key *key)
{
	const __u32 *words = (const void *)key;
	__u64 sum = secret.start;
	__u32 i;

#pragma unroll
	for (i = 0; i < sizeof(*key) / sizeof(*words); i += 2)
		sum += (secret.words[i] + words[i]) * (secret.words[i + 1] + words[i + 1]);
	return (sum ^ sum >> 32) * 0x9e3779b97f4a7c15ULL; /* 2^64 divided by the golden ratio */
}

/* 1 to 255. */
static __always_inline __u64 tag_of(__u64 hash)
{
	return 1 + ((hash >> 24 & 0xff) * 255 >> 8);
}

/* Which slot of its bucket. */
static __always_inline __u32 home_of(__u64 hash)
{
	return hash >> 20 & (BUCKET_SLOTS - 1);
}

static __always_inline __u32 first_bucket(__u64 hash)
{
	return (hash >> 32) * config.buckets >> 32;
}

static __always_inline __u32 second_bucket(__u64 hash)
{
	return first_bucket((hash ^ hash >> 29) * 0x9e3779b97f4a7c15ULL);
}

#define EACH_BYTE 0x0101010101010101ULL

/* The highest bit of each byte that is 0. */
static __always_inline __u64 zeros(__u64 word)
{
	const __u64 low = 0x7f * EACH_BYTE;

	return ~(((word & low) + low) | word | low);
}

/* In which byte the lowest of such bits is. */
static __always_inline __u32 lowest(__u64 bits)
{
	return ((bits & -bits) >> 7) * 0x0001020304050607ULL >> 56;
}

static __always_inline __u32 free_slots(const struct bucket *bucket)
{
	return ((zeros(bucket->words[0]) >> 7) + (zeros(bucket->words[1]) >> 7)) * EACH_BYTE >> 56;
}

/* The tags as they are now, each word in one access. */
static __always_inline struct bucket look_at(const struct bucket *bucket)
{
	const volatile struct bucket *now = bucket;
	struct bucket seen = {.words = {now->words[0], now->words[1]}};

	return seen;
}

static __always_inline int same(const struct flow_key *a, const struct flow_key *b)
{
	const __u64 *x = (const void *)a, *y = (const void *)b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4]));
}

static __always_inline int is_live(const struct flow_slot *slot, __u32 end)
{
	return (*(const volatile __u64 *)&slot->entry.count[end & 1] & LIVE) != 0;
}

/* The same, before the key is read: one that is older than that would have its connection made again. */
static __always_inline int was_live(struct flow_slot *slot, __u32 end)
{
	__u64 none = 0;

	barrier_var(none); /* or clang makes it an OR, which takes x86 a loop */
	return (__sync_fetch_and_add(&slot->entry.count[end & 1], none) & LIVE) != 0;
}

static __always_inline struct flow_slot *slot_at(__u32 index)
{
	return bpf_map_lookup_elem(&flows, &index);
}

/* Whether an entry of a connection counts in a slot. */
static __always_inline int has(const struct flow_slot *slot, const struct flow_key *key, __u32 end)
{
	return slot && same(&slot->key, key) && is_live(slot, end);
}

/* Finds a connection where nearly every one is: in its home or, in its first bucket, the first of its tag. */
static __always_inline struct flow_slot *find(const struct flow_key *key, __u64 hash, __u32 end)
{
	__u32 number = first_bucket(hash), index = number * BUCKET_SLOTS;
	__u64 tags_wanted = tag_of(hash) * EACH_BYTE, found;
	struct bucket *bucket = bpf_map_lookup_elem(&tags, &number);
	struct flow_slot *slot = slot_at(index + home_of(hash));
	struct bucket seen;

	if (!bucket)
		return 0;
	seen = look_at(bucket); /* before it is known whether they are needed: memory is slow */
	if (has(slot, key, end))
		return slot;
	found = zeros(seen.words[0] ^ tags_wanted);
	if (!found) {
		index += WORD_SLOTS;
		found = zeros(seen.words[1] ^ tags_wanted);
		if (!found)
			return 0;
	}
	slot = slot_at(index + lowest(found));
	return has(slot, key, end) ? slot : 0;
}

/* Finds a connection in eight slots that were seen to have these tags: the index of its slot, ABSENT or BUSY. */
__noinline long probe(const struct flow_key *key, __u32 end, __u32 first, __u64 seen, __u64 tag)
{
	__u64 found = zeros(seen ^ tag * EACH_BYTE);
	long result = ABSENT;
	__u32 i;

	if (!key)
		return ABSENT;
	for (i = 0; i < WORD_SLOTS && found; i++) {
		__u32 index = first + lowest(found);
		struct flow_slot *slot = slot_at(index);

		if (!slot || !was_live(slot, end))
			result = BUSY;
		else if (same(&slot->key, key))
			return index;
		found &= found - 1;
	}
	return result;
}

/* The same in a bucket. A slot that may be the connection's is no reason not to look for it further. */
static __always_inline long probe_bucket(const struct flow_key *key, __u32 end, __u32 number, const struct bucket *seen,
					 __u64 tag)
{
	__u32 first = number * BUCKET_SLOTS;
	long index = probe(key, end, first, seen->words[0], tag), other;

	if (index >= 0)
		return index;
	other = probe(key, end, first + WORD_SLOTS, seen->words[1], tag);
	return other == ABSENT ? index : other;
}

/* The index of the slot of a connection, or of none. */
static __always_inline long index_of(const struct flow_key *key)
{
	__u64 hash = hash_of(key);
	__u32 first = first_bucket(hash), second = second_bucket(hash);
	struct bucket *bucket = bpf_map_lookup_elem(&tags, &first), *other = bpf_map_lookup_elem(&tags, &second);
	struct bucket seen;
	long index;

	if (!bucket || !other)
		return ABSENT;
	seen = look_at(bucket);
	index = probe_bucket(key, 0, first, &seen, tag_of(hash));
	if (index >= 0)
		return index;
	seen = look_at(other);
	return probe_bucket(key, 0, second, &seen, tag_of(hash));
}

/* Frees a slot in which no entry counts. */
static __always_inline void release(__u32 index)
{
	__u32 number = index / BUCKET_SLOTS;
	struct bucket *bucket = bpf_map_lookup_elem(&tags, &number);
	__u64 keep = ~(0xffULL << 8 * (index % WORD_SLOTS));

	if (bucket)
		ordered(__sync_fetch_and_and(&bucket->words[index / WORD_SLOTS % BUCKET_WORDS], keep));
}

static __always_inline int unchanged(const struct bucket *bucket, const struct bucket *seen)
{
	struct bucket now = look_at(bucket);

	return now.words[0] == seen->words[0] && now.words[1] == seen->words[1];
}

/*
 * Takes a free slot of a bucket that was seen to have one: its home, or the first. The tags are then as they were seen but for
 * that one, or it is BUSY.
 */
static __always_inline long claim(__u32 number, struct bucket *bucket, struct bucket seen, __u64 hash)
{
	__u32 word = home_of(hash) / WORD_SLOTS, place = home_of(hash) % WORD_SLOTS, index;
	__u64 old = word ? seen.words[1] : seen.words[0], new;

	if (old >> 8 * place & 0xff) {
		word = zeros(seen.words[0]) ? 0 : 1;
		old = word ? seen.words[1] : seen.words[0];
		place = lowest(zeros(old));
	}
	new = old | tag_of(hash) << 8 * place;
	if (__sync_val_compare_and_swap(word ? &bucket->words[1] : &bucket->words[0], old, new) != old)
		return BUSY;
	if (word)
		seen.words[1] = new;
	else
		seen.words[0] = new;
	index = number * BUCKET_SLOTS + word * WORD_SLOTS + place;
	if (unchanged(bucket, &seen))
		return index;
	release(index);
	return BUSY;
}

static __always_inline void let_go(struct flow_entry *e)
{
	ordered(__sync_fetch_and_and(&e->state, ~STATE_HELD));
}

/* Keeps other CPUs from taking the entry away. 0 if one does, or if no entry counts there. */
static __always_inline int hold(struct flow_entry *e)
{
	if (__sync_fetch_and_or(&e->state, STATE_HELD) & STATE_HELD)
		return 0;
	if (*(volatile __u64 *)&e->count[0] & LIVE)
		return 1;
	let_go(e);
	return 0;
}

/* Has an entry count that was written. */
static __always_inline void publish(struct flow_slot *slot)
{
	__sync_lock_test_and_set(&slot->entry.count[1], LIVE);
	__sync_lock_test_and_set(&slot->entry.count[0], LIVE);
}

#endif
