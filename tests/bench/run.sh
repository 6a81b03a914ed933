#!/bin/sh
# run.sh BINARY: benchmarks, side by side with systemd 262 where PEER names its root directory.
set -eu
here=$(dirname "$0")
binary=$1
target=$(basename "$(dirname "$(dirname "$binary")")")
sh "$here/../tools/need.sh" bench "$target"
cargo build --quiet --locked --example mockcloud
MOCKCLOUD=$(dirname "$(dirname "$(dirname "$binary")")")/debug/examples/mockcloud
# No compiled modules in the tree.
export MOCKCLOUD PYTHONDONTWRITEBYTECODE=1
[ "$(id -u)" = 0 ] || exec python3 "$here/bench.py" "$binary"
# Mounts and interfaces made below vanish with these namespaces.
# shellcheck disable=SC2016 # the inner shell expands it
exec unshare -m -n --propagation private sh -euc 'ip link set lo up; exec python3 "$@"' \
    bench "$here/bench.py" "$binary" ${PEER:+"$PEER"}
