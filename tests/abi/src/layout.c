// SPDX-License-Identifier: MIT OR Apache-2.0
/* Sizes and offsets as a C program sees them, in the order of tests/layout.rs. */
#include <stddef.h>

#include "toa.h"

#define FIELD(type, field) offsetof(struct type, field), sizeof(((struct type *)0)->field)

const size_t toa_original_layout[] = {
	sizeof(struct toa_original), _Alignof(struct toa_original),
	FIELD(toa_original, version),
	FIELD(toa_original, size),
	FIELD(toa_original, family),
	FIELD(toa_original, segment),
	FIELD(toa_original, kind),
	FIELD(toa_original, length),
	FIELD(toa_original, port),
	FIELD(toa_original, peer_port),
	FIELD(toa_original, peer_family),
	FIELD(toa_original, reserved),
	FIELD(toa_original, addr),
	FIELD(toa_original, peer_addr),
};

const size_t toa_nat64_peer_layout[] = {
	sizeof(struct toa_nat64_peer), _Alignof(struct toa_nat64_peer),
	FIELD(toa_nat64_peer, saddr),
	FIELD(toa_nat64_peer, sport),
	FIELD(toa_nat64_peer, pad),
};
