// SPDX-License-Identifier: GPL-2.0
/*
 * Macros and inline functions of the kernel's core, one function each.
 */
#include <linux/build_bug.h>
#include <linux/cpumask.h>
#include <linux/hardirq.h>
#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/siphash.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <net/tcp_states.h>

#include "nomem.h"
#include "shim.h"

static_assert(TOA_TCP_SYN_SENT == TCP_SYN_SENT);
static_assert(TOA_TCP_SYN_RECV == TCP_SYN_RECV);
static_assert(TOA_TCP_CLOSE == TCP_CLOSE);
static_assert(TOA_TCP_LISTEN == TCP_LISTEN);

void toa_shim_rcu_read_lock(void)
{
	rcu_read_lock();
}

void toa_shim_rcu_read_unlock(void)
{
	rcu_read_unlock();
}

/*
 * Waits for every reader of this moment, and for code that runs with bottom
 * halves off. A macro on some kernels.
 */
void toa_shim_synchronize_rcu(void)
{
	synchronize_rcu();
}

/* cond_resched() is inline or a macro. */
void toa_shim_may_reschedule(void)
{
	cond_resched();
}

/* A cache with a constructor hands its objects out as they are, and is merged with no other. */
static void leave_as_is(void *object)
{
}

/*
 * For objects that are written whole as soon as they are had: clearing them
 * first, as CONFIG_INIT_ON_ALLOC would, costs as much as having them.
 * kmem_cache_create() is a macro on some kernels, kmem_cache_alloc() on others.
 */
struct kmem_cache *toa_shim_cache_new(const u8 *name, u32 bytes)
{
	if (toa_shim_nomem())
		return NULL;
	return kmem_cache_create((const char *)name, bytes, 0, 0, leave_as_is);
}

void toa_shim_cache_destroy(struct kmem_cache *cache)
{
	kmem_cache_destroy(cache);
}

void *toa_shim_cache_alloc(struct kmem_cache *cache)
{
	return kmem_cache_alloc(cache, GFP_ATOMIC | __GFP_NOWARN);
}

void toa_shim_cache_free(struct kmem_cache *cache, void *object)
{
	kmem_cache_free(cache, object);
}

/* kvmalloc() is inline or a macro. May sleep. */
void *toa_shim_alloc_large(size_t bytes)
{
	return toa_shim_nomem() ? NULL : kvmalloc(bytes, GFP_KERNEL);
}

void toa_shim_free(void *object)
{
	kvfree(object);
}

unsigned long toa_shim_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void toa_shim_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

u8 toa_shim_in_nmi(void)
{
	return !!in_nmi();
}

static struct irq_work refill;

static void refill_work(struct irq_work *work)
{
	toa_rust_refill();
}

/* irq_work wants a static object; it is the way out of an NMI-like context. */
void toa_shim_refill_attach(void)
{
	init_irq_work(&refill, refill_work);
}

void toa_shim_refill_queue(void)
{
	irq_work_queue(&refill);
}

void toa_shim_refill_detach(void)
{
	irq_work_sync(&refill);
}

/* Seconds since boot, to the tick: get_jiffies_64() is inline on 64-bit. */
u32 toa_shim_seconds(void)
{
	return (u32)div_u64(get_jiffies_64(), HZ);
}

static_assert(sizeof(hsiphash_key_t) == 2 * sizeof(unsigned long));

u32 toa_shim_hash(u32 a, u32 b, u32 c, const unsigned long key[2])
{
	return hsiphash_3u32(a, b, c, (const hsiphash_key_t *)key);
}

void toa_shim_random(void *to, size_t bytes)
{
	get_random_bytes(to, bytes);
}

u8 toa_shim_preempt_rt(void)
{
	return IS_ENABLED(CONFIG_PREEMPT_RT);
}

void *toa_shim_percpu_alloc(size_t bytes)
{
	if (toa_shim_nomem())
		return NULL;
	return (void *)(unsigned long __force)__alloc_percpu(bytes, sizeof(u64));
}

void toa_shim_percpu_free(void *percpu)
{
	free_percpu((void __percpu __force *)(unsigned long)percpu);
}

/* Nobody counts in these, on whatever CPU. */
void toa_shim_percpu_clear(void *percpu, size_t first, size_t count)
{
	u64 __percpu *counters = (u64 __percpu __force *)(unsigned long)percpu;
	int cpu;

	for_each_possible_cpu(cpu)
		memset(per_cpu_ptr(counters, cpu) + first, 0, count * sizeof(u64));
}

u64 toa_shim_percpu_read(const void *percpu, size_t index, u32 cpu)
{
	u64 __percpu *counters = (u64 __percpu __force *)(unsigned long)percpu;

	return READ_ONCE(per_cpu_ptr(counters, cpu)[index]);
}

/* The first possible CPU from @cpu on; at or above nr_cpu_ids: none. */
u32 toa_shim_next_cpu(u32 cpu)
{
	unsigned int next = cpumask_next((int)cpu - 1, cpu_possible_mask);

	return next < nr_cpu_ids ? next : U32_MAX;
}
