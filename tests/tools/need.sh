#!/bin/sh
# need.sh WHAT TARGET: install what WHAT (build, test, diff, vm, demo, bench) needs, or name it exactly.
set -eu
what=$1
target=$2

missing=
# want COMMAND PACKAGE
want() {
    command -v "$1" >/dev/null 2>&1 || case " $missing " in *" $2 "*) ;; *) missing="$missing $2" ;; esac
}

command -v cargo >/dev/null 2>&1 || {
    echo "slipway: 'cargo' is missing: install Rust 1.95 or newer from https://rustup.rs" >&2
    exit 1
}

want cc gcc
# A compiler alone links nothing.
echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null || missing="$missing libc6-dev"
case $target in x86_64-*-musl) want musl-gcc musl-tools ;; esac
case $what in
test) want file file; want xz xz-utils; want zstd zstd; want groff groff-base
      # What partitions are filled with, and what looks at them afterwards.
      want mkfs.vfat dosfstools; want mkfs.ext4 e2fsprogs; want mkfs.btrfs btrfs-progs; want mkfs.xfs xfsprogs
      want mkfs.erofs erofs-utils; want mksquashfs squashfs-tools; want mkfs.f2fs f2fs-tools
      want mcopy mtools; want sgdisk gdisk; want sfdisk fdisk; want openssl openssl
      # Networks of the tests' own are for root only.
      [ "$(id -u)" != 0 ] || { want ip iproute2; want nsenter util-linux; } ;;
diff) want unshare util-linux; want xz xz-utils; want zstd zstd; want sfdisk fdisk; want gpg gnupg
      # A complete run skips nothing.
      want shellcheck shellcheck; want busybox busybox-static; want ip iproute2 ;;
vm) want qemu-system-x86_64 qemu-system-x86; want busybox busybox-static; want swtpm swtpm
    want mke2fs e2fsprogs; want cryptsetup cryptsetup-bin
    [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || missing="$missing ovmf" ;;
bench) want unshare util-linux; want sfdisk fdisk; want mkfs.ext4 e2fsprogs; want xz xz-utils
       want zstd zstd; want python3 python3
       want time time; want ip iproute2 ;;
esac

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "slipway: installing$missing" >&2
        # shellcheck disable=SC2086 # one word per package
        { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } >&2
    else
        echo "slipway: this needs packages that are not installed. As root, run:" >&2
        echo "    apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
fi

if [ "$what" = test ] && command -v rustup >/dev/null 2>&1; then
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy >&2
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt >&2
fi

sysroot=$(rustc --print sysroot)
if [ ! -d "$sysroot/lib/rustlib/$target" ]; then
    if command -v rustup >/dev/null 2>&1; then
        echo "slipway: adding the Rust standard library for $target" >&2
        rustup target add "$target" >&2
    else
        echo "slipway: the Rust standard library for $target is missing and there is no rustup to add it" >&2
        exit 1
    fi
fi
