#!/bin/sh
# cross.sh ARCH: the initramfs flavour for another machine; needs no C compiler, only rust-lld.
set -eu
target=$1-unknown-linux-musl
[ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup target add "$target"
linker=CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_LINKER
env "$linker=rust-lld" cargo build --release --locked --target "$target" --no-default-features --features initramfs
