#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# run.sh HEADER PROBE.c... -- COMPILER FLAG...
#
# Writes HEADER: for each probe NAME.c that compiles, `#define TOA_HAVE_NAME`. Kbuild runs it with
# the shell that it uses itself, so it keeps to POSIX.
set -eu

header=$1
shift
probes=
while [ "$1" != -- ]; do
	probes="$probes $1"
	shift
done
shift

# The headers must compile at all; here the compiler may say why not.
"$@" -fsyntax-only "$(dirname "$0")/control.c" >&2

{
	echo "/* Written by probes/run.sh: what this kernel has. */"
	for probe in $probes; do
		name=$(basename "$probe" .c | tr '[:lower:]' '[:upper:]')
		if "$@" -Werror -fsyntax-only "$probe" 2>/dev/null; then
			echo "#define TOA_HAVE_$name"
		fi
	done
} >"$header.tmp"
mv "$header.tmp" "$header"
