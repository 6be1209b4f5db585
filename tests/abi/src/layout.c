// SPDX-License-Identifier: MIT OR Apache-2.0
/* Sizes and offsets as a C program sees them, in the order of tests/layout.rs. */
#include <stddef.h>

#include "toa.h"
#include "toa_netlink.h"

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
	FIELD(toa_original, flags),
	FIELD(toa_original, reserved),
	FIELD(toa_original, addr),
	FIELD(toa_original, peer_addr),
	FIELD(toa_original, vip),
	FIELD(toa_original, vpc_id),
	FIELD(toa_original, vip_port),
	FIELD(toa_original, vip_family),
	FIELD(toa_original, reserved2),
};

const size_t toa_nat64_peer_layout[] = {
	sizeof(struct toa_nat64_peer), _Alignof(struct toa_nat64_peer),
	FIELD(toa_nat64_peer, saddr),
	FIELD(toa_nat64_peer, sport),
	FIELD(toa_nat64_peer, pad),
};

const size_t toa_vs_layout[] = {
	sizeof(struct toa_vs), _Alignof(struct toa_vs),
	FIELD(toa_vs, vid),
	FIELD(toa_vs, vaddr),
	FIELD(toa_vs, vport),
	FIELD(toa_vs, pad),
};

const size_t toa_vs_hybrid_layout[] = {
	sizeof(struct toa_vs_hybrid), _Alignof(struct toa_vs_hybrid),
	FIELD(toa_vs_hybrid, vid),
	FIELD(toa_vs_hybrid, vaddr),
	FIELD(toa_vs_hybrid, vaddr_af),
	FIELD(toa_vs_hybrid, vport),
};

const size_t toa_prefix_layout[] = {
	sizeof(struct toa_prefix), _Alignof(struct toa_prefix),
	FIELD(toa_prefix, addr),
	FIELD(toa_prefix, length),
	FIELD(toa_prefix, reserved),
};

const size_t toa_session_layout[] = {
	sizeof(struct toa_session), _Alignof(struct toa_session),
	FIELD(toa_session, client),
	FIELD(toa_session, vip),
	FIELD(toa_session, peer),
	FIELD(toa_session, client_port),
	FIELD(toa_session, vip_port),
	FIELD(toa_session, peer_port),
	FIELD(toa_session, local_port),
	FIELD(toa_session, netns),
	FIELD(toa_session, vpc_id),
	FIELD(toa_session, client_family),
	FIELD(toa_session, vip_family),
	FIELD(toa_session, segment),
	FIELD(toa_session, kind),
	FIELD(toa_session, length),
	FIELD(toa_session, flags),
	FIELD(toa_session, reserved),
};
