/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT OR Apache-2.0 */
/*
 * toa_netlink.h - what the node's owner and the toa kernel module say to each
 * other, by generic netlink. Servers want toa.h, not this.
 *
 * Addresses are 16 bytes in network byte order, an IPv4 one as ::ffff:a.b.c.d;
 * other numbers are in host byte order unless they are __be.
 */
#ifndef _UAPI_TOA_NETLINK_H
#define _UAPI_TOA_NETLINK_H

#include <linux/types.h>

/* The family, and its version: it changes when a command or attribute changes its meaning. */
#define TOA_GENL_NAME		"toa"
#define TOA_GENL_VERSION	1

/*
 * Commands.
 *
 * TOA_CMD_GET_CONFIG    dump: one message with TOA_A_GENERATION, TOA_A_LAYOUTS,
 *                       TOA_A_FIRST_DATA and the three TOA_A_TRANSPARENT*, then
 *                       one with TOA_A_PREFIX for each trusted prefix, joined
 *                       and sorted
 * TOA_CMD_SET_CONFIG    all that is asked for takes effect at once, or nothing
 *                       does. Errors, with NLMSGERR_ATTR_MSG saying why and
 *                       NLMSGERR_ATTR_OFFS saying which attribute (within
 *                       TOA_A_LAYOUTS and TOA_A_TRANSPARENT_PORTS: which
 *                       entry) is to blame, if one is:
 *                         EPERM       no CAP_NET_ADMIN in the initial user
 *                                     namespace
 *                         EINVAL      an attribute is wrong
 *                         ESTALE      TOA_A_GENERATION is not the one in force
 *                         EOPNOTSUPP  the kernel cannot serve TOA_A_FIRST_DATA,
 *                                     or TOA_A_TRANSPARENT; its log says why
 *                         EBUSY       another owns the functions that
 *                                     TOA_A_TRANSPARENT redirects (a livepatch,
 *                                     a BPF program), or ftrace is switched
 *                                     off; the log says which function
 *                         ENOMEM      there is no memory for it
 * TOA_CMD_GET_SESSIONS  dump: a TOA_A_SESSION for each connection that has an
 *                       address; each that stays is there once, one that comes
 *                       or goes meanwhile may be or not
 *
 * The dumps want CAP_NET_ADMIN in the user namespace of the socket's network
 * namespace. The configuration is one for all; of the sessions those of that
 * network namespace are shown, and in the initial one those of all.
 */
#define TOA_CMD_GET_CONFIG	1
#define TOA_CMD_SET_CONFIG	2
#define TOA_CMD_GET_SESSIONS	3

/*
 * Attributes. In SET_CONFIG only TOA_A_PREFIX may be there more than once, and
 * what is left out stays as it is.
 *
 * TOA_A_GENERATION  __u32, from 1, one more with each SET_CONFIG that asks for
 *                   something (and not with a parameter that is written in
 *                   sysfs). In SET_CONFIG: only if it is the one in force
 * TOA_A_TRUST       flag, in SET_CONFIG: the trusted sources become those of this
 *                   message's TOA_A_PREFIX, which may be none
 * TOA_A_PREFIX      struct toa_prefix; as many as TOA_PREFIXES_MAX in a message
 * TOA_A_LAYOUTS     text: the set of options that are read, as the parameter
 *                   layouts has it; never a profile's name in GET_CONFIG. With
 *                   another set the counters of options begin anew
 * TOA_A_FIRST_DATA  __u8, 0 or 1: whether a connection's first data are read
 * TOA_A_SESSION     struct toa_session
 * TOA_A_TRANSPARENT __u8, 0 or 1: whether accept and getpeername themselves tell
 *                   the client. This and the next two are the parameters of the
 *                   same names, which show what is set here
 * TOA_A_TRANSPARENT_LOCAL
 *                   __u8, 0 or 1: whether getsockname tells the VIP, while
 *                   TOA_A_TRANSPARENT is 1
 * TOA_A_TRANSPARENT_PORTS
 *                   text: the servers' ports to which both are limited, with
 *                   commas between them; empty: all ports
 */
#define TOA_A_GENERATION	1
#define TOA_A_TRUST		2
#define TOA_A_PREFIX		3
#define TOA_A_LAYOUTS		4
#define TOA_A_FIRST_DATA	5
#define TOA_A_SESSION		6
#define TOA_A_TRANSPARENT	7
#define TOA_A_TRANSPARENT_LOCAL	8
#define TOA_A_TRANSPARENT_PORTS	9
#define TOA_A_MAX		9

#define TOA_PREFIXES_MAX	4096
#define TOA_LAYOUTS_MAX		1024	/* bytes of text */
#define TOA_PORTS_MAX		1024	/* likewise */

/**
 * struct toa_prefix - sources that are trusted
 * @addr:	the first of them; bits behind the prefix are zero
 * @length:	of 128, so 96 more than an IPv4 prefix is written with
 * @reserved:	zero
 */
struct toa_prefix {
	__u8	addr[16];
	__u8	length;
	__u8	reserved[3];
};

/**
 * struct toa_session - a connection that has an address
 * @client:	the client's address
 * @vip:	the VIP: where the client connected to
 * @peer:	the wire's peer
 * @client_port: the client's port; 0 where the option carries none
 * @vip_port:	the VIP's port, likewise
 * @peer_port:	the wire peer's port
 * @local_port:	the server's port
 * @netns:	the network namespace: the inode of its /proc/PID/ns/net
 * @vpc_id:	the VPC of the VIP, as on the wire
 * @client_family: AF_INET or AF_INET6, as the option had it; AF_UNSPEC: the
 *		options named no client, and @client, @client_port, @segment,
 *		@kind, @length are zero
 * @vip_family:	the same of the VIP
 * @segment:	TOA_SEGMENT_* of toa.h: what carried the client's address
 * @kind:	the option's kind on the wire
 * @length:	the option's length on the wire
 * @flags:	TOA_FLAG_* of toa.h: what is known beside the client
 * @reserved:	zero
 *
 * A newer module may append fields.
 */
struct toa_session {
	__u8	client[16];
	__u8	vip[16];
	__u8	peer[16];
	__be16	client_port;
	__be16	vip_port;
	__be16	peer_port;
	__be16	local_port;
	__u32	netns;
	__be32	vpc_id;
	__u8	client_family;
	__u8	vip_family;
	__u8	segment;
	__u8	kind;
	__u8	length;
	__u8	flags;
	__u8	reserved[2];
};

#endif /* _UAPI_TOA_NETLINK_H */
