#!/bin/sh
# size.sh BINARY TARGET: the size of the binary against its budget and against the recorded one.
#
# A growth of more than 5 % and 4 KiB over tests/bench/size.txt fails: say in the commit why it is
# worth it and record the new number with UPDATE=1.
set -eu
binary=$1 target=$2
record=$(dirname "$0")/size.txt
budget=$((5 * 1024 * 1024))

now=$(wc -c <"$binary")
was=$(awk -v t="$target" '$1 == t { print $2 }' "$record" 2>/dev/null || true)
echo "$target: $now bytes (budget $budget, recorded ${was:-nothing})"
command -v file >/dev/null && file -b "$binary"

if [ "${UPDATE:-0}" = 1 ]; then
    { grep -v "^$target " "$record" 2>/dev/null || true; echo "$target $now"; } >"$record.new"
    mv "$record.new" "$record"
    exit 0
fi
[ "$now" -le "$budget" ] || { echo "make size: over the budget" >&2; exit 1; }
if [ -n "$was" ] && [ $((now - was)) -gt 4096 ] && [ $((now * 100)) -gt $((was * 105)) ]; then
    echo "make size: grew by $((now - was)) bytes" >&2
    exit 1
fi
