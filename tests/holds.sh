# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Tests that are commands or functions of a script, told as libtest tells its own, so that
# scripts/test can add them up. Stands alone: it is sourced in nodes, too.

tests_passed=0
tests_failed=0

# verdict NAME STATUS: one test that ended so.
verdict() {
    if [ "$2" -eq 0 ]; then
        printf 'test %s ... ok\n' "$1"
        tests_passed=$((tests_passed + 1))
    else
        printf 'test %s ... FAILED\n' "$1"
        tests_failed=$((tests_failed + 1))
    fi
}

# holds NAME COMMAND...: one test, in this shell, and whatever it says.
holds() {
    local name=$1
    shift
    # No variable that a command of the script might mean as its own.
    if "$@"; then
        verdict "$name" 0
    else
        verdict "$name" 1
    fi
}

# skip NAME WHY: one test that cannot be judged here, and is counted as skipped.
skip() {
    printf 'test %s ... skipped: %s\nok\n' "$1" "$2"
    tests_passed=$((tests_passed + 1))
}

# try NAME COMMAND...: one test, in a shell of its own that ends at the first error; what it says is
# shown where it fails.
try() {
    local name=$1 log status
    shift
    log=$(mktemp)
    # In a condition, and before ||, no command stops at its first error, whatever it sets itself.
    set +e
    (set -e && "$@") >"$log" 2>&1 </dev/null
    status=$?
    set -e
    verdict "$name" "$status"
    [ "$status" -eq 0 ] || sed 's/^/    /' "$log"
    rm -f "$log"
}

# held: the last line, and the exit status.
held() {
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
