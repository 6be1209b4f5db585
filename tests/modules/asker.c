// SPDX-License-Identifier: GPL-2.0
/*
 * A client of sockets inside the kernel: asks for the peer of a socket of the
 * task that loads it, by the call that is for the kernel and by the socket's own.
 */
#include <linux/file.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/net.h>
#include <linux/socket.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Asks for a socket's peer from inside the kernel, in tests");

static int fd = -1;
module_param(fd, int, 0444);
MODULE_PARM_DESC(fd, "the socket");

static char by_call[64];
module_param_string(by_call, by_call, sizeof(by_call), 0444);
MODULE_PARM_DESC(by_call, "what kernel_getpeername() told");

static char by_socket[64];
module_param_string(by_socket, by_socket, sizeof(by_socket), 0444);
MODULE_PARM_DESC(by_socket, "what the socket's operation told");

static int __init asker_init(void)
{
	struct sockaddr_storage peer = {};
	struct socket *sock;
	int err;

	sock = sockfd_lookup(fd, &err);
	if (!sock)
		return err;
	err = kernel_getpeername(sock, (void *)&peer);
	snprintf(by_call, sizeof(by_call), "%pISpc", &peer);
	if (err >= 0) {
		memset(&peer, 0, sizeof(peer));
		err = sock->ops->getname(sock, (void *)&peer, 2);
		snprintf(by_socket, sizeof(by_socket), "%pISpc", &peer);
	}
	sockfd_put(sock);
	return err < 0 ? err : 0;
}
module_init(asker_init);

static void __exit asker_exit(void)
{
}
module_exit(asker_exit);
