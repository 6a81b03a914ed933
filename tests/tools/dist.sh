#!/bin/sh
# dist.sh BINARY TARGET OUT: source archive with vendored crates, binary, and their SHA256SUMS, which
# our own updater can install from.
set -eu
binary=$1 target=$2 out=$3/dist
version=$(cargo pkgid --locked | sed 's/.*[#@]//')
name=slipway-$version
rm -rf "$out"
mkdir -p "$out/$name"
git archive HEAD | tar -x -C "$out/$name"
(cd "$out/$name" && mkdir -p .cargo && cargo vendor --locked --quiet vendor >>.cargo/config.toml)
tar -C "$out" --sort=name --mtime="@${SOURCE_DATE_EPOCH:-0}" --owner=0 --group=0 --numeric-owner \
    -cJf "$out/$name.tar.xz" "$name"
rm -rf "${out:?}/$name"
cp "$binary" "$out/slipway_${version}_$target"
(cd "$out" && sha256sum -- * >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS && cat SHA256SUMS)
