# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Everything the front doors share; one file per concept.

toa_lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
TOA_REPO=$(cd "$toa_lib/../.." && pwd -P)
export TOA_REPO

# shellcheck source=messages.sh
. "$toa_lib/messages.sh"
# shellcheck source=cache.sh
. "$toa_lib/cache.sh"
# shellcheck source=packages.sh
. "$toa_lib/packages.sh"
# shellcheck source=rust.sh
. "$toa_lib/rust.sh"
# shellcheck source=programs.sh
. "$toa_lib/programs.sh"
# shellcheck source=mirror.sh
. "$toa_lib/mirror.sh"
# shellcheck source=roots.sh
. "$toa_lib/roots.sh"
# shellcheck source=foreign.sh
. "$toa_lib/foreign.sh"
# shellcheck source=kernel.sh
. "$toa_lib/kernel.sh"
# shellcheck source=debug.sh
. "$toa_lib/debug.sh"
# shellcheck source=module.sh
. "$toa_lib/module.sh"
# shellcheck source=machine.sh
. "$toa_lib/machine.sh"
