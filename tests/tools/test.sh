#!/bin/sh
# test.sh TARGET BINARY: the static build, then every test, then one line that adds them up.
#
# Fails on any failure, and, with REQUIRE_ALL=1, on any skip that tests/tools/skips.txt does not
# allow by name.
set -u
target=$1
binary=$2
# With PEER the comparisons with the real systemd are among the tests.
[ -z "${PEER:-}" ] || sh tests/tools/need.sh diff "$target"
# With KERNEL machines are booted.
[ -z "${KERNEL:-}" ] || sh tests/tools/need.sh vm "$target"

log=$(mktemp)
trap 'rm -f "$log"' EXIT

run() {
    echo "== $*"
    { "$@" 2>&1; echo "exit status: $?"; } | tee -a "$log" | grep -v '^exit status: 0$'
}

run make --no-print-directory static "TARGET=$target"
run cargo fmt --check
run cargo clippy --locked --quiet --all-targets -- -D warnings
SLIPWAY_STATIC=$PWD/$binary
case $binary in /*) SLIPWAY_STATIC=$binary ;; esac
export SLIPWAY_STATIC
run cargo test --locked --quiet -- --show-output

sh tests/tools/tally.sh "$log"
