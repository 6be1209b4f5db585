# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Tests that are functions of a script on this machine: their results as libtest prints them,
# so that scripts/test can add them up.

# shellcheck source=../scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib/all.sh"

tests_passed=0
tests_failed=0

# try NAME COMMAND...: one test; the command's output is shown where it fails.
try() {
    local name=$1 log=$TOA_CACHE/log/test-tried.log status
    shift
    # In a condition, and before ||, no command stops at its first error, whatever it sets itself.
    set +e
    (set -e && "$@") >"$log" 2>&1 </dev/null
    status=$?
    set -e
    if [ "$status" -eq 0 ]; then
        tests_passed=$((tests_passed + 1))
        printf 'test %s ... ok\n' "$name"
    else
        tests_failed=$((tests_failed + 1))
        printf 'test %s ... FAILED\n' "$name"
        sed 's/^/    /' "$log"
    fi
}

# tests_end: the last line, and the exit status.
tests_end() {
    local word=ok
    [ "$tests_failed" -eq 0 ] || word=FAILED
    printf '\ntest result: %s. %d passed; %d failed; 0 ignored\n' "$word" "$tests_passed" "$tests_failed"
    [ "$tests_failed" -eq 0 ]
}

# expect TEXT FILE: the file has the text.
expect() {
    grep -qF -- "$1" "$2" && return
    echo "no '$1' in:"
    cat "$2"
    return 1
}

# refused STATUS COMMAND...: the command ends with that status; what it said is in $said.
refused() {
    local wanted=$1 status=0
    shift
    said=$(mktemp)
    "$@" >"$said" 2>&1 || status=$?
    [ "$status" -eq "$wanted" ] && return
    echo "status $status, not $wanted: $*"
    cat "$said"
    return 1
}
