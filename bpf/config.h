/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Settings. User space writes them before loading, and the verifier takes what is off out of the programs. */
#ifndef WEIR_CONFIG_H
#define WEIR_CONFIG_H

#include <linux/types.h>

struct settings {
	__u32 sampling;   /* one in so many packets is counted, at random */
	__u32 vlan_zones; /* equal connections in separate VLANs are separate */
	__u32 replay;     /* frames are of a capture, and say when, where and how long they were */
	__u32 decap;	  /* tunnels whose contents are counted: a bit for each enum tunnel_kind */
	__be16 vxlan_port;
	__be16 geneve_port;
	__be16 gtpu_port;
	__u16 pad;
};

volatile const struct settings config = {.sampling = 1};

#endif
