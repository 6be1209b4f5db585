# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Adding up what libtest prints: one "test result:" line per test binary.

results_passed=0
results_failed=0
results_skipped=0
# Whether what is passed over elsewhere is still to be run here: the first node does it.
results_again=1

# test_binaries ARGUMENT...: the executables of `cargo test ARGUMENT...`, one per line.
test_binaries() {
    cargo_here test --quiet --no-run --message-format=json "$@" |
        sed -n '/"reason":"compiler-artifact"/{/"profile":{[^}]*"test":true/s/.*"executable":"\([^"]*\)".*/\1/p}'
}

# with_ignored_tests: those of the test binaries on stdin that pass tests over.
with_ignored_tests() {
    local binary
    while read -r binary; do
        # All of the list is read: with grep -q its writer could fail, and be passed over.
        if "$binary" --list --ignored 2>/dev/null </dev/null | grep ': test$' >/dev/null; then
            printf '%s\n' "$binary"
        fi
    done
}

# results_add LOG EXPECTED: add a log's results; each expected binary that printed none has
# crashed or never ran, and counts as a failure. What was passed over elsewhere and is run
# here, below a line "Running ... (--ignored)", is skipped no more.
results_add() {
    local log=$1 expected=$2 passed failed skipped lines again
    read -r passed failed skipped lines again < <(awk -v first="$results_again" '
        /^ *Running / { again = /\(--ignored\)$/ }
        # A test that finds that its kernel cannot have it says so, and ends well. It says so in
        # the middle of the line of libtest.
        / skipped: |^skipped: / { own++ }
        /^test result: / {
            for (i = 2; i <= NF; i++) {
                if ($i == "passed;") p = $(i - 1)
                if ($i == "failed;") f = $(i - 1)
                if ($i == "ignored;") s = $(i - 1)
            }
            passed += p; failed += f; skipped += again ? -first * (p + f) : s; lines++
            agains += again
        }
        END { print passed - own, failed + 0, skipped + own, lines + 0, agains + 0 }' "$log")
    results_passed=$((results_passed + passed))
    results_failed=$((results_failed + failed))
    results_skipped=$((results_skipped + skipped))
    [ "$again" -eq 0 ] || results_again=0
    if [ "$lines" -lt "$expected" ]; then
        results_fail $((expected - lines)) "$((expected - lines)) of $expected test binaries gave no result; see $log"
    fi
}

# results_fail NUMBER TEXT: failures that no test reported.
results_fail() {
    say "$2"
    results_failed=$((results_failed + $1))
}

# results_print: the last line, and the script's exit status.
results_print() {
    local skipped=''
    [ "$results_skipped" -le 0 ] || skipped=", $results_skipped skipped"
    printf '%d passed, %d failed%s\n' "$results_passed" "$results_failed" "$skipped"
    [ "$results_failed" -eq 0 ] && [ "$results_passed" -gt 0 ]
}
