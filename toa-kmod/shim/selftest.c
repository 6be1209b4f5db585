// SPDX-License-Identifier: GPL-2.0
/*
 * Whether kprobes fire. /sys/kernel/debug/kprobes/enabled switches all of them
 * off at once. register_kprobe() succeeds then as ever, and no exported call
 * and no flag of the probe tells. So one is put on a function of our own, and
 * the function is called.
 */
#include <linux/compiler.h>
#include <linux/kprobes.h>

#include "kprobe.h"
#include "shim.h"

static bool fired;

static noinline void target(void)
{
	/* Not a pure function, whose call could be left out. */
	barrier();
}

static int target_probe(struct kprobe *kprobe, struct pt_regs *regs)
{
	WRITE_ONCE(fired, true);
	return 0;
}
NOKPROBE_SYMBOL(target_probe);

static struct kprobe probe;

/*
 * To be called by one at a time. Only a probe that was registered and did not fire proves
 * anything: a kernel that will not have it on this function may well have it
 * on others.
 */
u8 toa_shim_kprobes_silent(void)
{
	/* A kprobe keeps what an earlier registration left in it. */
	probe = (struct kprobe){
		.addr		= (kprobe_opcode_t *)target,
		.pre_handler	= target_probe,
	};
	WRITE_ONCE(fired, false);
	if (toa_kprobe_register(&probe))
		return 0;
	target();
	unregister_kprobe(&probe);
	return !READ_ONCE(fired);
}
