/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The maps. Sizes marked as set at load are placeholders: user space writes them before loading. */
#ifndef WEIR_MAPS_H
#define WEIR_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"

/* Connections, and where they are: table.h. Maps that can be mapped into memory begin with a cache line, as others do not. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_slot);
	__uint(max_entries, 1); /* set at load */
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct bucket);
	__uint(max_entries, 1); /* set at load */
} tags SEC(".maps");

/* The fate of every packet. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct ledger_page);
	__uint(max_entries, 1);
} ledger SEC(".maps");

/* struct closing: connections that finished, to be taken after their linger. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* set at load */
} closed SEC(".maps");

/* struct record: what sweep and take hand over. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* set at load */
} records SEC(".maps");

/* The keys that the next run of take is about. An array, for bpf_for_each_map_elem walks it without unrolling. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct flow_key);
	__uint(max_entries, TAKE_MAX);
} taking SEC(".maps");

/* What a callback of bpf_for_each_map_elem is given first. */
struct bpf_map;

/* Nothing is in it: bpf_for_each_map_elem walks it, and so the words that a sweep or the search in a copy is about. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, SWEEP_WORDS);
} steps SEC(".maps");

/* In the words of user space, where what members `flows` and `records` have: for a later user space with another layout. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct description);
	__uint(max_entries, 1);
} description SEC(".maps");

#endif
