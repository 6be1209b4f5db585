// SPDX-License-Identifier: GPL-2.0
/*
 * The generic netlink family, whose operations are static objects with
 * callbacks. What is used of struct genl_family and struct genl_ops is the same
 * from 5.4 to 7.x.
 *
 * Operations are not parallel: the core calls one at a time, dumps aside, so
 * one change does not meet another. Unloading is safe by the core's own means:
 * it holds a reference on the module for as long as a dump is unfinished (so
 * rmmod says busy), and genl_unregister_family() waits for every other
 * operation, answer included.
 */
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/netlink.h>
#include <linux/skbuff.h>
#include <net/genetlink.h>
#include <net/net_namespace.h>
#include <net/netlink.h>
#include <net/sock.h>

#include "shim.h"
#include "toa_netlink.h"

/* Rust judges them again, and sees those that are there more than once. */
static const struct nla_policy policy[TOA_A_MAX + 1] = {
	[TOA_A_GENERATION]	= { .type = NLA_U32 },
	[TOA_A_TRUST]		= { .type = NLA_FLAG },
	[TOA_A_PREFIX]		= { .type = NLA_BINARY, .len = sizeof(struct toa_prefix) },
	[TOA_A_LAYOUTS]		= { .type = NLA_BINARY, .len = TOA_LAYOUTS_MAX },
	[TOA_A_FIRST_DATA]	= { .type = NLA_U8 },
	[TOA_A_TRANSPARENT]	= { .type = NLA_U8 },
	[TOA_A_TRANSPARENT_LOCAL] = { .type = NLA_U8 },
	[TOA_A_TRANSPARENT_PORTS] = { .type = NLA_BINARY, .len = TOA_PORTS_MAX },
};

static int set_config(struct sk_buff *skb, struct genl_info *info)
{
	return toa_rust_netlink_set(info, (const u8 *)nlmsg_attrdata(info->nlhdr, GENL_HDRLEN),
				    nlmsg_attrlen(info->nlhdr, GENL_HDRLEN));
}

static int dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct genlmsghdr *request = nlmsg_data(cb->nlh);
	const struct net *net = sock_net(skb->sk);
	unsigned long cursor[2] = { cb->args[0], cb->args[1] };

	toa_rust_netlink_dump(skb, cb, request->cmd, (unsigned long)net,
			      net_eq(net, &init_net), cursor);
	cb->args[0] = cursor[0];
	cb->args[1] = cursor[1];
	/* Called again for as long as there was something to say. */
	return skb->len;
}

/*
 * GENL_ADMIN_PERM is CAP_NET_ADMIN in the initial user namespace;
 * GENL_UNS_ADMIN_PERM is it in the one that the socket's network namespace
 * belongs to.
 */
static const struct genl_ops operations[] = {
	{
		.cmd	= TOA_CMD_GET_CONFIG,
		.flags	= GENL_UNS_ADMIN_PERM,
		.dumpit	= dump,
	},
	{
		.cmd	= TOA_CMD_SET_CONFIG,
		.flags	= GENL_ADMIN_PERM,
		.doit	= set_config,
	},
	{
		.cmd	= TOA_CMD_GET_SESSIONS,
		.flags	= GENL_UNS_ADMIN_PERM,
		.dumpit	= dump,
	},
};

static struct genl_family family = {
	.name		= TOA_GENL_NAME,
	.version	= TOA_GENL_VERSION,
	.maxattr	= TOA_A_MAX,
	.policy		= policy,
	.netnsok	= true,
	.module		= THIS_MODULE,
	.ops		= operations,
	.n_ops		= ARRAY_SIZE(operations),
};

int toa_shim_netlink_attach(void)
{
	int err = genl_register_family(&family);

	/* To who loads modules, -EEXIST says that a module of this name is loaded. */
	return err == -EEXIST ? -EBUSY : err;
}

void toa_shim_netlink_detach(void)
{
	genl_unregister_family(&family);
}

/* Begins a message of a dump; NULL where there is no room for it. */
void *toa_shim_netlink_begin(struct sk_buff *skb, struct netlink_callback *cb, u8 command)
{
	void *message = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
				    &family, NLM_F_MULTI, command);

	if (message)
		genl_dump_check_consistent(cb, message);
	return message;
}

/* Whether there was room for it. */
u8 toa_shim_netlink_put(struct sk_buff *skb, u16 attribute, const void *value, size_t len)
{
	return nla_put(skb, attribute, len, value) == 0;
}

void toa_shim_netlink_end(struct sk_buff *skb, void *message)
{
	genlmsg_end(skb, message);
}

void toa_shim_netlink_cancel(struct sk_buff *skb, void *message)
{
	genlmsg_cancel(skb, message);
}

/* What is dumped has this number; where it changes before the end, the reader is told. */
void toa_shim_netlink_generation(struct netlink_callback *cb, u32 generation)
{
	cb->seq = generation;
}

/* What is wrong with a request, and with which part of it, if with one. @why stays. */
void toa_shim_netlink_refuse(struct genl_info *info, const u8 *part, const char *why)
{
	if (!info->extack)
		return;
	info->extack->_msg = why;
	if (part)
		NL_SET_BAD_ATTR(info->extack, (const struct nlattr *)part);
}
