/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT OR Apache-2.0 */
/*
 * toa.h - what user space and the toa kernel module say to each other.
 *
 * This header is the one source of the ABI: the module, libtoa and the tests
 * take their types from it. It is self-contained C and may be copied.
 *
 * A server asks, on a connected TCP socket (AF_INET or AF_INET6):
 *
 *	struct toa_original o;
 *	socklen_t len = sizeof(o);
 *
 *	if (getsockopt(fd, IPPROTO_IP, TOA_SO_ORIGINAL, &o, &len) == 0 &&
 *	    o.family != AF_UNSPEC)
 *		... o.addr and o.port are the client's ...
 */
#ifndef _UAPI_TOA_H
#define _UAPI_TOA_H

#include <linux/types.h>

/*
 * The ABI's version. It changes only when the meaning of an existing field
 * changes; new fields are appended and announced by toa_original.size.
 */
#define TOA_ABI_VERSION		1

/*
 * getsockopt(fd, IPPROTO_IP, ...) option names. "TOA" in ASCII, well away from
 * the ranges that netfilter, IPVS and other TOA modules use.
 *
 * Errors of TOA_SO_ORIGINAL:
 *   ENOPROTOOPT  the module is not loaded
 *   EOPNOTSUPP   not a TCP socket (or a true MPTCP one: the kernel stops those)
 *   ENOTCONN     not connected: listening, closed, or still connecting
 *   EINVAL       the buffer is shorter than TOA_ORIGINAL_SIZE_V1
 *   EFAULT       the buffer cannot be written
 * A connection that carried no address is no error: family is AF_UNSPEC.
 */
#define TOA_SO_ORIGINAL		0x544f4100	/* struct toa_original */
#define TOA_SO_ABI		0x544f4101	/* __u32: TOA_ABI_VERSION; on any IP socket */

/* The segment that carried the address: toa_original.segment. */
#define TOA_SEGMENT_NONE	0	/* no address */
#define TOA_SEGMENT_SYN		1	/* the client's SYN */
#define TOA_SEGMENT_ACK		2	/* the segment that completed the handshake */
#define TOA_SEGMENT_DATA	3	/* one of the first data segments (first_data=1) */

/* What else is known: toa_original.flags. */
#define TOA_FLAG_VIP		0x01	/* the VIP */
#define TOA_FLAG_VPC_ID		0x02	/* the VPC of the VIP */

/**
 * struct toa_original - the original address of a connection's client
 * @version:	TOA_ABI_VERSION of the module that answered, host byte order
 * @size:	bytes of this structure that the module knows, host byte order
 * @family:	AF_INET or AF_INET6: how to read @addr; AF_UNSPEC: the
 *		connection carried no address of its client, and @port, @addr,
 *		@segment, @kind, @length are zero. On an AF_INET6 socket an IPv4
 *		address is given as AF_INET6 ::ffff:a.b.c.d, as getpeername()
 *		does.
 * @segment:	TOA_SEGMENT_*
 * @kind:	the TCP option's kind on the wire (200, 253, 254, ...)
 * @length:	the TCP option's length on the wire, kind and length included
 * @port:	the client's TCP port, network byte order; 0 where the option
 *		carries none (28/7, 28/19)
 * @peer_port:	the wire peer's TCP port, network byte order
 * @peer_family: AF_INET or AF_INET6: how to read @peer_addr
 * @flags:	TOA_FLAG_*: what is known beside; also told to a buffer that ends
 *		before it
 * @reserved:	zero
 * @addr:	the client's address, network byte order; AF_INET uses the first
 *		4 bytes, the others are zero
 * @peer_addr:	the wire peer's address (what getpeername() says), the same way
 * @vip:	the VIP: the address of the load balancer that the client
 *		connected to, the same way
 * @vpc_id:	the VPC that the VIP is in: the bytes as on the wire, which is
 *		to be network byte order; an id of three bytes has a 0 in front
 * @vip_port:	the VIP's TCP port, network byte order; 0 where the option
 *		carries none (249/40)
 * @vip_family:	AF_INET or AF_INET6: how to read @vip; AF_UNSPEC: not known
 * @reserved2:	zero
 *
 * The caller's buffer may be shorter than the module's structure (an older
 * program) or longer (a newer one): optlen returns how much was written, which
 * is the smaller of the two, and never less than TOA_ORIGINAL_SIZE_V1.
 */
struct toa_original {
	__u16	version;
	__u16	size;
	__u8	family;
	__u8	segment;
	__u8	kind;
	__u8	length;
	__be16	port;
	__be16	peer_port;
	__u8	peer_family;
	__u8	flags;
	__u8	reserved[2];
	__u8	addr[16];
	__u8	peer_addr[16];
	__u8	vip[16];
	__be32	vpc_id;
	__be16	vip_port;
	__u8	vip_family;
	__u8	reserved2;
};

#define TOA_ORIGINAL_SIZE_V1	48	/* the least that is answered: up to @peer_addr */

/*
 * The call of DPVS and Tencent CLB's NAT64 clients: the IPv6 client of an
 * AF_INET connection, and nothing else.
 *   EINVAL    short buffer, or the connection carried no address
 *   ENOTCONN  not connected
 *   EFAULT    the address is not an IPv6 one on an AF_INET socket; or a bad buffer
 */
#define TOA_SO_GET_LOOKUP	4096

/**
 * struct toa_nat64_peer - answer to TOA_SO_GET_LOOKUP
 * @saddr:	the client's IPv6 address, network byte order
 * @sport:	the client's TCP port, network byte order
 * @pad:	zero; the published structure is 20 bytes long in C
 */
struct toa_nat64_peer {
	__be32	saddr[4];
	__be16	sport;
	__u8	pad[2];
};

/*
 * The calls of Alibaba's vtoa: where the client connected to. optlen stays what
 * the caller said; a longer buffer is as good, except where a size is asked for.
 *   EINVAL    short buffer, or not of the size asked for; at IPPROTO_IPV6, any
 *	       call but the last
 *   ESRCH     not known; or an IPv6 VIP, which the first two cannot tell; at
 *	       IPPROTO_IPV6, an IPv4 VIP
 *   EFAULT    a bad buffer
 */
#define TOA_SO_GET_VS		1345	/* struct toa_vs */
#define TOA_SO_GET_VS4RDS	1346	/* 32 bytes: the caller's 20, then struct toa_vs */
#define TOA_SO_GET_VS_HYBRID	1347	/* struct toa_vs_hybrid; also at IPPROTO_IPV6 */

/**
 * struct toa_vs - answer to TOA_SO_GET_VS and TOA_SO_GET_VS4RDS
 * @vid:	the VPC: the option's bytes as they are; 0 where none carried it
 * @vaddr:	the VIP, network byte order
 * @vport:	its TCP port, network byte order
 * @pad:	zero; the published structure is 12 bytes long in C
 */
struct toa_vs {
	__u32	vid;
	__be32	vaddr;
	__be16	vport;
	__u8	pad[2];
};

/**
 * struct toa_vs_hybrid - answer to TOA_SO_GET_VS_HYBRID
 * @vid:	as above; of an IPv6 VIP (249/40) in host byte order
 * @vaddr:	the VIP, network byte order; AF_INET uses the first 4 bytes
 * @vaddr_af:	AF_INET or AF_INET6: how to read @vaddr
 * @vport:	its TCP port, network byte order; 0 with an IPv6 VIP of 249/40
 */
struct toa_vs_hybrid {
	__u32	vid;
	__u8	vaddr[16];
	__u16	vaddr_af;
	__be16	vport;
};

#endif /* _UAPI_TOA_H */
