// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoint tcp_destroy_sock, found by its name: it is not exported.
 * The kernel calls the probe through a typed pointer, so it is C.
 */
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <net/sock.h>
#include <trace/events/tcp.h>

#include "shim.h"

static struct tracepoint *destroy_sock;

static void probe_destroy_sock(void *data, struct sock *sk)
{
	toa_rust_destroy(sk);
}

static void find_destroy_sock(struct tracepoint *tp, void *data)
{
	if (!strcmp(tp->name, "tcp_destroy_sock"))
		destroy_sock = tp;
}

int toa_shim_tracepoint_attach(void)
{
	/* Compiles only while the probe has the tracepoint's arguments. */
	check_trace_callback_type_tcp_destroy_sock(probe_destroy_sock);
	for_each_kernel_tracepoint(find_destroy_sock, NULL);
	if (!destroy_sock)
		return -ENOENT;
	return tracepoint_probe_register(destroy_sock, probe_destroy_sock, NULL);
}

/* tracepoint_synchronize_unregister() is inline; after it no probe is running. */
void toa_shim_tracepoint_detach(void)
{
	tracepoint_probe_unregister(destroy_sock, probe_destroy_sock, NULL);
	tracepoint_synchronize_unregister();
}
