# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Tests that are commands, told as libtest tells its own, so that scripts/test can add them
# up.

passed=0 failed=0

# holds NAME COMMAND...: one test.
holds() {
    local name=$1
    shift
    if "$@"; then
        echo "test $name ... ok"
        passed=$((passed + 1))
    else
        echo "test $name ... FAILED"
        failed=$((failed + 1))
    fi
}

# held: the last line, and the exit status.
held() {
    local result=ok
    [ "$failed" -eq 0 ] || result=FAILED
    echo "test result: $result. $passed passed; $failed failed; 0 ignored"
    [ "$failed" -eq 0 ]
}
