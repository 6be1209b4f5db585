#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# symbols.sh NM OBJECT ALLOWED
#
# Fails if OBJECT leaves a symbol undefined that no pattern of ALLOWED fits. A bounds check, an
# overflow check or an unwrap in the Rust shows here as one of core::panicking's functions.
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

set -f
status=0
for symbol in $("$nm" --undefined-only --format=posix "$object" | cut -d ' ' -f 1); do
	if ! fits "$symbol"; then
		echo "$object refers to $symbol, which $allowed does not allow" >&2
		status=1
	fi
done
exit $status
