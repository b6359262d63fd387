/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the kernel side and the user side of weir share. Go's types are generated from these, so: fixed-width members,
 * explicit padding, no unions, no bitfields. The asserts at the end hold the layout.
 */
#ifndef WEIR_ABI_H
#define WEIR_ABI_H

#include <linux/types.h>

/* Where a packet was seen. */
enum hook {
	HOOK_XDP_INGRESS,
	HOOK_TC_INGRESS,
	HOOK_TC_EGRESS,
	HOOKS,
};

/* What became of a packet: counted in an entry, or not, with the reason. Every program run ends in exactly one. */
enum fate {
	FATE_COUNTED,
	FATE_FILTERED,    /* the filter does not match it, whatever it is */
	FATE_NOT_IP,      /* neither IPv4 nor IPv6, behind whatever tags and labels: ARP, LLDP, … */
	FATE_TRUNCATED,   /* the frame ends inside a header */
	FATE_MALFORMED,   /* a header contradicts itself */
	FATE_UNSUPPORTED, /* more tags, labels or extension headers than weir reads */
	FATE_NOT_SAMPLED, /* left out by the sampling rate */
	FATE_DUPLICATE,   /* this direction is counted on another interface or hook */
	FATE_NO_MEMORY,   /* the kernel gave no room to work in */
	FATE_EXPIRING,    /* its entry was made, deleted or evicted in the same instant */
	FATES,
};

/* Why a record was handed over. */
enum handover {
	HANDOVER_IDLE,
	HANDOVER_ACTIVE, /* counters since the last hand-over; the entry stays */
	HANDOVER_CLOSED,
	HANDOVER_SHUTDOWN,
};

/* Bits of flow_entry.state. Bit n of a pair belongs to end n. */
enum flow_state {
	STATE_FIN_0 = 1 << 0,
	STATE_FIN_1 = 1 << 1,
	STATE_FIN = STATE_FIN_0 | STATE_FIN_1,
	STATE_RST = 1 << 2,
	STATE_CLOSED = 1 << 3, /* finished: leaves after its linger */
	STATE_OPENED_0 = 1 << 4,
	STATE_OPENED_1 = 1 << 5,
	STATE_OPENED = STATE_OPENED_0 | STATE_OPENED_1,
	STATE_PARTED = 1 << 6, /* a part of it was handed over: the counters are not of all its packets */
	STATE_SAMPLED_0 = 1 << 7, /* what it sends is not looked at any more */
	STATE_SAMPLED_1 = 1 << 8,
	STATE_SSH = 1 << 9, /* lengths of its packets are gathered */
	STATE_HELD = 1 << 10, /* a CPU hands it over or takes it away; never in a record */
	STATE_FOLLOWED = 1 << 11, /* what `streams` and `handshakes` have of its slot is its own */
	STATE_ASKED_0 = 1 << 12, /* of what it sends, only what carries something is looked at: it may be another request */
	STATE_ASKED_1 = 1 << 13,
	STATE_SAMPLED = STATE_SAMPLED_0 | STATE_SAMPLED_1 | STATE_SSH | STATE_ASKED_0 | STATE_ASKED_1,
};

/*
 * A connection. addr[0], port[0] is the lower endpoint: addresses compared byte by byte (IPv4 as v4-mapped, RFC 4291
 * section 2.5.5.2), then ports. ICMP has port 0 at its source and type * 256 + code at its destination, as NetFlow.
 */
struct flow_key {
	__u8 addr[2][16];
	__be16 port[2];
	__u8 protocol;
	__u8 netns; /* number of its network namespace: 0 is the agent's own */
	__u16 zone;
} __attribute__((aligned(8)));

/* Shifts in a direction's counter, its owner, and what was carried over. */
enum meter_shift {
	OWNER_SHIFT = 2,
	COUNT_SHIFT = 36,
	BYTES_CARRY_SHIFT = 35,   /* 32 GiB are carried over at a time, */
	PACKETS_CARRY_SHIFT = 26, /* or so many packets */
	CARRIED_SHIFT = 16,       /* of the bytes in flow_half.carried */
	LIVE_SHIFT = 63,
};

#define BYTES_CARRY (1ULL << BYTES_CARRY_SHIFT)
#define PACKETS_CARRY (1ULL << (COUNT_SHIFT + PACKETS_CARRY_SHIFT))
#define LIVE (1ULL << LIVE_SHIFT) /* the entry counts; else what is added is not counted there */
#define CARRIED_PACKETS ((1U << CARRIED_SHIFT) - 1)

/*
 * What an entry has of a direction. Times are CLOCK_MONOTONIC: precise of a direction's first packet and of SYN, FIN and RST,
 * else good to a tick.
 */
struct flow_half {
	__u32 owner; /* the one place that counts this direction: ifindex << OWNER_SHIFT | enum hook; 0: not seen yet */
	__u32 last;  /* the kernel's tick (jiffies) of the last packet */
	__u64 first_ns;
	__u64 last_ns;   /* of the last packet that came in last_tick; 0: none yet */
	__u32 last_tick; /* while that is `last`, last_ns is when the last packet came */
	__u32 carried;   /* how often packets were, and from CARRIED_SHIFT on, how often bytes */
};

/*
 * Index n is what end n sent. Counters and flags run from the last hand-over. One add to `count` counts a packet, if the entry
 * was LIVE: its bytes in the lower bits, and 1 in those from COUNT_SHIFT on. From a field that is half full the half is
 * carried over into flow_half; the other half is room for every CPU to add a packet before that is done.
 */
struct flow_entry {
	__u64 count[2];
	__u32 tcp_flags; /* OR; IPFIX tcpControlBits, RFC 7125: those of end n from bit 16 n on */
	__u32 state;     /* enum flow_state */
	struct flow_half half[2];
};

/*
 * In the map `flows`: two cache lines, and both halves are the second. A packet needs both lines, but asks for the second
 * before it has the first.
 */
struct flow_slot {
	struct flow_key key;
	struct flow_entry entry;
};

#define BUCKET_WORDS 2
#define WORD_SLOTS 8
#define BUCKET_SLOTS (BUCKET_WORDS * WORD_SLOTS)

/* In the map `tags`: a byte for each of so many slots, one after the other. 0: the slot is free. */
struct bucket {
	__u64 words[BUCKET_WORDS];
};

/* What can be around a packet. Bit n of settings.decap is kind n. */
enum tunnel_kind {
	TUNNEL_NONE,
	TUNNEL_VXLAN,  /* RFC 7348 */
	TUNNEL_GENEVE, /* RFC 8926 */
	TUNNEL_GRE,    /* RFC 2784, RFC 2890 */
	TUNNEL_IPIP,   /* IPv4 or IPv6 in either: RFC 2003, RFC 2473, RFC 4213 */
	TUNNEL_GTPU,   /* 3GPP TS 29.281 */
	TUNNEL_ERSPAN, /* what a switch mirrors, in GRE: draft-foschiano-erspan-03 */
};

/*
 * A tunnel, as one connection sees it: outer[n] is the outer address that end n of the connection is behind. So both
 * directions have the same tunnel, and a tunnel counts as two if connections in it have their lower end at either side. What is
 * mirrored goes one way, whichever end sent it: from outer[0] to outer[1].
 */
struct tunnel {
	__u8 outer[2][16];
	__u32 id; /* VNI, key, TEID or session; 0 if there is none */
	__u16 vlan; /* of the frame in the tunnel, where VLANs are kept apart */
	__u16 around; /* the zone that it was found in: another tunnel's, a VLAN, or 0 */
	__u8 kind; /* enum tunnel_kind */
	__u8 pad[3];
};

/* Zones below are VLANs. */
#define TUNNEL_ZONES_FIRST 4096
#define TUNNEL_ZONES_END 65536

struct tunnel_zone {
	__u64 seen_ns; /* CLOCK_MONOTONIC, written once a second */
	__u32 zone;
	__u32 check; /* sum over the tunnel */
};

/* In the ring `records`: what was in a slot, and why it left. */
struct record {
	struct flow_key key;
	struct flow_entry entry;
	__u32 handover; /* enum handover */
	__u32 pad;
};

/* What a SYN or SYN-ACK says of the system that sent it. */
struct opening {
	__u64 ns; /* CLOCK_MONOTONIC, of the first of its kind; 0: none was seen */
	__u32 sequence;
	__u16 window; /* as in the header, not scaled */
	__u8 ttl;     /* or hop limit */
	__u8 options_len;
	__u8 options[40]; /* as they were sent */
};

#define RESENT_MAX 9

/* How a TCP connection was opened. */
struct handshake {
	struct opening syn;
	struct opening synack;
	__u64 ack_ns;		      /* when the opener first acknowledged the SYN-ACK; 0: that was not seen */
	__u64 resent_ns;	      /* when the SYN-ACK was last sent */
	__u32 resent_ms[RESENT_MAX];  /* between one SYN-ACK and the next */
	__u32 reset_ms;		      /* from the last SYN-ACK to the server's RST, at least 1; 0: there was none */
	__u8 resent;		      /* how many there are of resent_ms */
	__u8 opener;		      /* which end of the key it is */
	__u8 pad[2];
	__u32 owner;		      /* of whose connection it is: of the hash of the key, the lower half */
};

/* In the ring `records`, of a connection of which the handshake was seen and is told for the first time. */
struct opened_record {
	struct record record;
	struct handshake handshake;
};

/* What is copied of packets, for fingerprints: bits of settings.samples. */
enum wanted {
	WANT_HANDSHAKE = 1 << 0,    /* struct handshake, in the record */
	WANT_TLS = 1 << 1,	    /* the first message of either end */
	WANT_CERTIFICATES = 1 << 2, /* and what else either sends before encryption begins */
	WANT_HTTP = 1 << 3,	    /* heads of requests: HTTP/1 */
	WANT_SSH = 1 << 4,	    /* struct lengths */
	WANT_QUIC = 1 << 5,	    /* the first Initial datagrams of either end */
	WANT_DHCP = 1 << 6,	    /* datagrams, whole */
	WANT_QUIC_TIMES = 1 << 7,   /* and the beginnings of those that follow, which say when */
	WANT_STREAMS = WANT_TLS | WANT_CERTIFICATES | WANT_HTTP | WANT_SSH,
	WANT_DATAGRAMS = WANT_QUIC | WANT_DHCP,
};

enum sample_kind {
	SAMPLE_STREAM,
	SAMPLE_DATAGRAM,
	SAMPLE_LENGTHS,
};

/* What everything in the ring `samples` begins with. */
struct sample_head {
	struct flow_key key;
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 offset;  /* of a piece of a stream: how many bytes its end sent before it, as far as that was seen */
	__u32 origin;  /* the sequence number from which that is counted: another one is of another connection */
	__u16 len;     /* bytes that follow */
	__u8 kind;     /* enum sample_kind */
	__u8 end;      /* the packet was sent by end n of the key */
	__u8 ttl;      /* or hop limit */
	__u8 opened;   /* which end opened the connection: one of STATE_OPENED, 0 if that is not known */
	__u8 pad[2];
};

#define SAMPLE_MAX 16384

/* As much of data follows in the ring as there is. */
struct sample {
	struct sample_head head;
	__u8 data[SAMPLE_MAX];
};

#define LENGTHS_MAX 200

/* So many packets with payload of an SSH connection, over both directions. Index n is what end n sent. */
struct lengths {
	struct sample_head head;
	__u32 acks[2]; /* packets that only acknowledge */
	__u32 next[2]; /* sequence number behind what was sent, of the ends in `begun` */
	__u16 count[2];
	__u8 begun; /* bit n: end n sent something */
	__u8 pad[3];
	__u16 payload[2][LENGTHS_MAX]; /* bytes of TCP payload, in order */
};

/* In the ring `closed`: a connection that has just finished. */
struct closing {
	struct flow_key key;
	__u64 closed_ns;
	__u32 reset; /* by RST, not by FIN */
	__u32 pad;
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

/* Per CPU. seen = Σ fates; fates[FATE_COUNTED] = exported + evicted + what is in the map. */
struct ledger_page {
	struct counter seen[HOOKS];
	struct counter fates[FATES];
	struct counter exported;
	struct counter evicted;
	__u64 inserts;
	__u64 deletes;
	__u64 evictions;    /* entries that made room for others */
	__u64 closed_full;  /* events that found the ring `closed` full: the sweep takes those entries */
	__u64 records_full; /* hand-overs that found the ring `records` full: the entry stays */
	__u64 unopened;	    /* packets counted in the flow of their tunnel, though what is in such tunnels is counted */
	__u64 samples;
	__u64 samples_limited; /* left out, there being too many at a time */
	__u64 samples_full;    /* left out, the ring `samples` being full */
	__u64 samples_forgotten; /* SSH connections whose lengths made room for those of others */
};

#define SWEEP_WORDS 1024

/* Context of the program `sweep`, which sweeps SWEEP_WORDS words of the map `tags` at a time: what is `out` adds up. */
struct sweep_args {
	/* in */
	__u64 now_ns; /* by the clock of the packets */
	__u64 tcp_idle_ns;
	__u64 other_idle_ns;
	__u64 single_idle_ns; /* of entries with a single packet so far, if that is less; 0: as the others */
	__u64 active_ns;
	__u64 linger_ns; /* a closed entry leaves when nothing was seen for this long */
	__u32 shutdown;  /* hand over everything */
	__u32 first;     /* word */
	/* out */
	__u32 tick;    /* when that run began */
	__u32 stopped; /* the ring filled: read it and sweep again */
	__u64 resident_flows;
	__u64 resident_packets;
	__u64 resident_bytes;
	__u64 next_due_ns; /* when the first of what is resident is due, if no packets come; 0: nothing is resident */
};

struct description {
	__u8 text[4096];
};

#define TAKE_MAX 1024

/* Context of the program `take`: the first `count` keys of the map `taking`. */
struct take_args {
	/* in */
	__u32 count;
	/* out */
	__u32 done; /* keys dealt with; fewer than count if the ring filled */
};

_Static_assert(sizeof(struct flow_key) == 40, "flow_key");
_Static_assert(HOOKS <= 1 << OWNER_SHIFT, "flow_half.owner");
_Static_assert(sizeof(struct flow_half) == 32, "flow_half");
_Static_assert(sizeof(struct flow_entry) == 88, "flow_entry");
_Static_assert(sizeof(struct flow_slot) == 128, "flow_slot");
_Static_assert(__builtin_offsetof(struct flow_slot, entry.half) == 64, "the halves are a cache line");
_Static_assert(sizeof(struct tunnel) == 44, "tunnel");
_Static_assert(sizeof(struct tunnel_zone) == 16, "tunnel_zone");
_Static_assert(sizeof(struct record) == 136, "record");
_Static_assert(__builtin_offsetof(struct record, entry) == __builtin_offsetof(struct flow_slot, entry), "beginning of a record");
_Static_assert(sizeof(struct opening) == 56, "opening");
_Static_assert(sizeof(struct handshake) == 176, "handshake");
_Static_assert(sizeof(struct opened_record) == 312, "opened_record");
_Static_assert(sizeof(struct sample_head) == 64, "sample_head");
_Static_assert(sizeof(struct lengths) == 888, "lengths");
_Static_assert(sizeof(struct closing) == 56, "closing");
_Static_assert(sizeof(struct sweep_args) == 96, "sweep_args");

#endif
