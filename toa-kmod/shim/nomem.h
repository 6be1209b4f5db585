/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TOA_NOMEM_H
#define _TOA_NOMEM_H

#include <linux/types.h>

/*
 * Whether the allocation that is about to be made is to fail: in the build of
 * TOA_SEED=nomem (tests/debug/seeds) the one that parameter nomem names, in every
 * other build none. Not asked by toa_shim_cache_alloc(), which an interrupt may
 * call at any moment: nobody could say which is the n-th.
 */
#ifdef TOA_SEED_nomem
u8 toa_shim_nomem(void);
#else
static inline u8 toa_shim_nomem(void)
{
	return 0;
}
#endif

#endif /* _TOA_NOMEM_H */
