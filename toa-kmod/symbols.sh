#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# symbols.sh NM OBJECT ALLOWED
#
# Fails if OBJECT leaves a symbol undefined that no pattern of ALLOWED fits. A bounds check, an
# overflow check or an unwrap in the Rust shows here: as the function of core that panics, where
# core is an object of its own; where it is compiled into OBJECT, as rust_begin_unwind, in which
# every panic ends.
# Run by Kbuild with the shell that it uses itself, so it keeps to POSIX.
set -eu

nm=$1
object=$2
allowed=$3

patterns=$(sed 's/[[:space:]]*#.*//; /^$/d' "$allowed")

fits() {
	for pattern in $patterns; do
		# The pattern is meant to be one.
		# shellcheck disable=SC2254
		case $1 in
		$pattern) return 0 ;;
		esac
	done
	return 1
}

# Names of v0 mangling without their hash and lengths: the functions that OBJECT panics by, but
# for the two that all the others share.
panics_by() {
	"$nm" --defined-only --format=posix "$object" | sed -n 's/^_R.*_4core\([^ ]*\) [tTwW] .*/core\1/p' |
		grep -E 'panicking|_fail' | sed 's/[0-9][0-9]*/::/g' |
		grep -vxE 'core::panicking::panic(_fmt)?' || echo core::panicking::panic
}

set -f
refused=
for symbol in $("$nm" --undefined-only --format=posix "$object" | cut -d ' ' -f 1); do
	fits "$symbol" || refused="$refused $symbol"
done

for symbol in $refused; do
	case $symbol in
	*rust_begin_unwind)
		by=$(panics_by | tr '\n' ' ')
		echo "$object refers to $symbol, which $allowed does not allow: it can panic, by ${by% }" >&2
		# The others are what printing a panic takes.
		exit 1
		;;
	esac
done
for symbol in $refused; do
	echo "$object refers to $symbol, which $allowed does not allow" >&2
done
[ -z "$refused" ]
