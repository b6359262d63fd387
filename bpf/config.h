/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Settings. User space writes them before loading, and the verifier takes what is off out of the programs. */
#ifndef WEIR_CONFIG_H
#define WEIR_CONFIG_H

#include <linux/types.h>

struct settings {
	__u32 sampling;   /* one in so many packets is counted, at random */
	__u32 vlan_zones; /* equal connections in separate VLANs are separate */
};

volatile const struct settings config = {.sampling = 1};

#endif
