#!/bin/sh
# run.sh BINARY: benchmarks, side by side with systemd 262 where PEER names its root directory.
set -eu
here=$(dirname "$0")
binary=$1
target=$(basename "$(dirname "$(dirname "$binary")")")
sh "$here/../tools/need.sh" bench "$target"
[ -n "${PEER:-}" ] || exec python3 "$here/bench.py" "$binary"
exec unshare -m --propagation private python3 "$here/bench.py" "$binary" "$PEER"
