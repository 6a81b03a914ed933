#!/bin/sh
# repro.sh TARGET: builds the committed tree in two directories of different length and compares.
set -eu
target=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for dir in "$work/a" "$work/a-much-longer-name/b"; do
    mkdir -p "$dir"
    git archive HEAD | tar -x -C "$dir"
    (
        unset CARGO_TARGET_DIR
        cd "$dir"
        make --no-print-directory static "TARGET=$target" >/dev/null
        sha256sum <"target/$target/release/slipway"
    )
done | tee "$work/sums"
[ "$(sort -u "$work/sums" | wc -l)" = 1 ] || { echo "make repro: the two builds differ" >&2; exit 1; }
echo "reproducible: both builds are identical"
