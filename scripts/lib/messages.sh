# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What the scripts tell the person who started them. All of it goes to stderr:
# stdout belongs to the command's own result.

toa_steps=0
toa_step=0

# steps N: how many numbered steps will follow.
steps() {
    toa_steps=$1
    toa_step=0
}

# step TEXT: the next numbered step begins; SECONDS counts from the script's start.
step() {
    toa_step=$((toa_step + 1))
    printf '[%d/%d] %4d s  %s\n' "$toa_step" "$toa_steps" "$SECONDS" "$*" >&2
}

say() {
    printf '%s\n' "$*" >&2
}

# detail TEXT: a line that belongs to the current step.
detail() {
    printf '              %s\n' "$*" >&2
}

# die TEXT: stop with exit status ${DIE_STATUS:-1}.
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "${DIE_STATUS:-1}"
}

# usage_error TEXT: stop because the command line is wrong.
usage_error() {
    printf "%s: %s (see '%s --help')\n" "${0##*/}" "$*" "$0" >&2
    exit 2
}

# print_help: the comment block at the head of the running script is its help text.
print_help() {
    sed -n '/^# SPDX/d; /^#!/d; /^#/!q; s/^# \{0,1\}//; p' "$0"
}

# logged NAME COMMAND...: run a talkative command with its output in a log file, which is
# shown only when the command fails.
logged() {
    local log="$TOA_CACHE/log/$1.log" status=0
    shift
    mkdir -p "$TOA_CACHE/log"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        say "this failed (status $status): $*"
        say "the end of $log:"
        tail -n 30 "$log" >&2
        return "$status"
    fi
}
