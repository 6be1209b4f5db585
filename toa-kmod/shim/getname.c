// SPDX-License-Identifier: GPL-2.0
/*
 * Functions of ours in the place of inet_getname() and inet6_getname(), by
 * ftrace. Both serve getpeername() with peer 1 and accept() with peer 2, io_uring's
 * forms of them included, and getsockname() with 0. Their arguments are the same
 * from 5.4 to 7.x. Nothing is patched by us: a call is stopped at their entry, and
 * goes on here.
 *
 * Ours call the kernel's by their entry, so ftrace comes by once more, and is told
 * to let the call pass. Calling past the entry would spare that, but needs an
 * address that neither IBT, BTI nor kCFI has for a target.
 */
#include <linux/build_bug.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/skbuff.h>
#include <linux/string.h>
#include <net/sock.h>	/* before 5.11 the next wants it */
#include <net/inet_common.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>

#include "compat.h"
#include "filter.h"
#include "shim.h"

#ifdef TOA_HAVE_FTRACE

/* Nothing is called or referred to here. */
static_assert(sizeof(inet_getname((struct socket *)0, (void *)0, 0)) == sizeof(int));
#if IS_BUILTIN(CONFIG_IPV6)
static_assert(sizeof(inet6_getname((struct socket *)0, (void *)0, 0)) == sizeof(int));
#endif

/*
 * Tasks inside a function of ours, which may sleep there for the socket's lock:
 * counted where they are, so that no CPU writes what others do, and summed up when
 * no more can come.
 */
static DEFINE_PER_CPU(long, inside);
/* Those that have not come that far: they wait for the lock in early(). */
static DEFINE_PER_CPU(long, inside_early);

typedef int (*getname_t)(struct socket *sock, void *name, int peer);
typedef void (*tell_t)(const struct sock *sk, u16 local_port, void *name);

/*
 * Both functions are known where this is inlined, so no call is an indirect one.
 * Interrupts are off where sessions are looked at (kernel/session.rs). They were on
 * before: who comes here is a task in its system call, which may sleep.
 */
static __always_inline int told(struct socket *sock, void *name, int peer,
				getname_t getname, tell_t tell)
{
	const struct sock *sk;
	int len;

	this_cpu_inc(inside);
	len = getname(sock, name, peer);
	if (likely(len > 0)) {
		sk = sock->sk;
		local_irq_disable();
		tell(sk, (u16 __force)READ_ONCE(inet_sk(sk)->inet_sport), name);
		local_irq_enable();
	}
	this_cpu_dec(inside);
	return len;
}

/* Of a Fast Open connection something may be known before it has a session. */
static __always_inline int early(struct socket *sock, void *name, int peer, getname_t told)
{
	struct sock *sk = sock->sk;
	int len;

	this_cpu_inc(inside_early);
	lock_sock(sk);
	toa_rust_getname_settle(sk);
	release_sock(sk);
	len = told(sock, name, peer);
	this_cpu_dec(inside_early);
	return len;
}

/* Whose name is asked for. */
enum { PEER, LOCAL };

/* The place that a call comes to, and those that it may go on in. */
static struct toa_redirect {
	struct ftrace_ops ftrace;
	char *name;
	unsigned long to[2];
	unsigned long early[2];		/* before the end of the handshake */
	unsigned long own;		/* where the kernel's returns to in the first, once seen */
} redirects[2];

/* Whether getsockname() is told anything. */
static bool local;

/* What ftrace calls at the entry. The address that the call returns to says who calls. */
static __always_inline void called(unsigned long caller, struct toa_ftrace_regs *regs,
				   struct toa_redirect *redirect)
{
	const struct socket *sock = (const struct socket *)toa_ftrace_argument(regs, 0);
	const struct sock *sk;

	if (caller == READ_ONCE(redirect->own))
		return;
	sk = sock->sk;
	if (unlikely(READ_ONCE(sk->sk_state) == TCP_SYN_RECV)) {
		toa_rust_getname_early(sk, caller, redirect, regs);
		return;
	}
	/* Who sees the handshake's end sees what it told: pairs with inet_sk_state_store(). */
	smp_rmb();
	toa_rust_getname_called(sk, caller, redirect, regs);
}

/* @caller is met for the first time, and no program's. */
void notrace toa_shim_getname_met(void *redirect, void *registers, unsigned long caller)
{
	struct toa_ftrace_regs *regs = registers;
	struct toa_redirect *r = redirect;

	if (within_module(caller, THIS_MODULE) && (int)toa_ftrace_argument(regs, 2))
		WRITE_ONCE(r->own, caller);
}

/* The call is to go on in ours, if it is one that is told. */
static __always_inline void go_on_in(struct toa_ftrace_regs *regs, const unsigned long to[2])
{
	if ((int)toa_ftrace_argument(regs, 2))
		toa_ftrace_redirect(regs, to[PEER]);
	else if (READ_ONCE(local))
		toa_ftrace_redirect(regs, to[LOCAL]);
}

void notrace toa_shim_getname_redirect(void *redirect, void *registers)
{
	struct toa_redirect *r = redirect;

	go_on_in(registers, r->to);
}

void notrace toa_shim_getname_redirect_early(void *redirect, void *registers)
{
	struct toa_redirect *r = redirect;

	go_on_in(registers, r->early);
}

void toa_shim_getname_local(u8 on)
{
	WRITE_ONCE(local, on);
}

static __always_inline int call_inet_getname(struct socket *sock, void *name, int peer)
{
	return inet_getname(sock, name, peer);
}

static noinline notrace int told_inet_getname(struct socket *sock, void *name, int peer)
{
	return told(sock, name, peer, call_inet_getname, toa_rust_getname_tell);
}

static noinline notrace int told_inet_getname_local(struct socket *sock, void *name, int peer)
{
	return told(sock, name, peer, call_inet_getname, toa_rust_getname_tell_local);
}

static notrace int early_inet_getname(struct socket *sock, void *name, int peer)
{
	return early(sock, name, peer, told_inet_getname);
}

static notrace int early_inet_getname_local(struct socket *sock, void *name, int peer)
{
	return early(sock, name, peer, told_inet_getname_local);
}

static notrace void ftrace_inet_getname(unsigned long ip, unsigned long parent_ip,
					struct ftrace_ops *ops,
					struct toa_ftrace_regs *regs)
{
	called(parent_ip, regs, &redirects[TOA_GETNAME_INET]);
}

#if IS_BUILTIN(CONFIG_IPV6)
static __always_inline int call_inet6_getname(struct socket *sock, void *name, int peer)
{
	return inet6_getname(sock, name, peer);
}

static noinline notrace int told_inet6_getname(struct socket *sock, void *name, int peer)
{
	return told(sock, name, peer, call_inet6_getname, toa_rust_getname_tell6);
}

static noinline notrace int told_inet6_getname_local(struct socket *sock, void *name, int peer)
{
	return told(sock, name, peer, call_inet6_getname, toa_rust_getname_tell6_local);
}

static notrace int early_inet6_getname(struct socket *sock, void *name, int peer)
{
	return early(sock, name, peer, told_inet6_getname);
}

static notrace int early_inet6_getname_local(struct socket *sock, void *name, int peer)
{
	return early(sock, name, peer, told_inet6_getname_local);
}

static notrace void ftrace_inet6_getname(unsigned long ip, unsigned long parent_ip,
					 struct ftrace_ops *ops,
					 struct toa_ftrace_regs *regs)
{
	called(parent_ip, regs, &redirects[TOA_GETNAME_INET6]);
}
#endif

static struct toa_redirect redirects[2] = {
	[TOA_GETNAME_INET] = {
		.ftrace.func = ftrace_inet_getname,
		.name = "inet_getname",
		.to[PEER] = (unsigned long)told_inet_getname,
		.to[LOCAL] = (unsigned long)told_inet_getname_local,
		.early[PEER] = (unsigned long)early_inet_getname,
		.early[LOCAL] = (unsigned long)early_inet_getname_local,
	},
	[TOA_GETNAME_INET6] = {
		.name = "inet6_getname",
#if IS_BUILTIN(CONFIG_IPV6)
		.ftrace.func = ftrace_inet6_getname,
		.to[PEER] = (unsigned long)told_inet6_getname,
		.to[LOCAL] = (unsigned long)told_inet6_getname_local,
		.early[PEER] = (unsigned long)early_inet6_getname,
		.early[LOCAL] = (unsigned long)early_inet6_getname_local,
#endif
	},
};

int toa_shim_getname_attach(u32 which)
{
	struct toa_redirect *r = &redirects[which];

	/* Without IPv6 there is nothing to redirect; IPv6 as a module is not served. */
	if (!r->ftrace.func)
		return IS_ENABLED(CONFIG_IPV6) ? -EOPNOTSUPP : 0;
	r->ftrace.flags = TOA_FTRACE_FLAGS | FTRACE_OPS_FL_IPMODIFY;
	return toa_ftrace_register(&r->ftrace, r->name);
}

void toa_shim_getname_detach(u32 which)
{
	struct toa_redirect *r = &redirects[which];

	if (r->ftrace.func)
		toa_ftrace_unregister(&r->ftrace);
}

static bool anyone(const long __percpu *counted)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(counted, cpu));
	return sum != 0;
}

/*
 * Nobody is redirected any more. A task that was is counted or gone when the first
 * wait is over; the counters that are looked at only fall then, and what is read of
 * them cannot be less than what they are. The last wait is for who has been counted out and not
 * returned yet. SRCU would do as well, at some 30 instructions a call: it can wait
 * while others come in, which none does.
 */
void toa_shim_getname_quiesce(void)
{
	synchronize_rcu_tasks();
	/* First those that are yet to be counted among the others. */
	while (anyone(&inside_early))
		msleep(20);
	while (anyone(&inside))
		msleep(20);
	synchronize_rcu_tasks();
}
#else
int toa_shim_getname_attach(u32 which)
{
	return -EOPNOTSUPP;
}

void toa_shim_getname_detach(u32 which)
{
}

void toa_shim_getname_met(void *redirect, void *registers, unsigned long caller)
{
}

void toa_shim_getname_redirect(void *redirect, void *registers)
{
}

void toa_shim_getname_redirect_early(void *redirect, void *registers)
{
}

void toa_shim_getname_local(u8 on)
{
}

void toa_shim_getname_quiesce(void)
{
}
#endif

/*
 * The name of the function at @address, as far as @size goes, and its whole length.
 * sprint_symbol_no_offset() wants a buffer that is larger than any that Rust needs.
 */
size_t toa_shim_symbol(unsigned long address, u8 *name, size_t size)
{
	char symbol[KSYM_SYMBOL_LEN];
	size_t len;

	sprint_symbol_no_offset(symbol, address);
	len = strlen(symbol);
	memcpy(name, symbol, min(len, size));
	return len;
}

/* Without CONFIG_KALLSYMS an address is all that there is of a name. */
u8 toa_shim_symbols_known(void)
{
	char symbol[KSYM_SYMBOL_LEN];

	sprint_symbol_no_offset(symbol, (unsigned long)inet_getname);
	return !strcmp(symbol, "inet_getname");
}
