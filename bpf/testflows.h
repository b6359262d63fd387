/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The flows of tests and benchmarks: UDP/IPv4 frames that differ in source address and source port. TCP has its source port in
 * the same place.
 */
#ifndef WEIR_TESTFLOWS_H
#define WEIR_TESTFLOWS_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <linux/udp.h>

/* Flow f has source port 32768 + f % 32768 and source address base_address + f / 32768. */
#define PORT_BITS 15
#define PORT_MASK ((1u << PORT_BITS) - 1)
#define FIRST_PORT (1u << PORT_BITS)

struct frame {
	struct ethhdr eth;
	struct iphdr ip; /* without options */
	struct udphdr udp;
} __attribute__((packed));

/* Spreads i over 64 bits: the finalizer of MurmurHash3. The same is in generator.go. */
static __always_inline __u64 mix(__u64 i)
{
	i ^= i >> 33;
	i *= 0xff51afd7ed558ccdULL;
	i ^= i >> 33;
	i *= 0xc4ceb9fe1a85ec53ULL;
	return i ^ i >> 33;
}

#endif
