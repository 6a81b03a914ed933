#!/bin/sh
# build-kernel.sh SOURCE OUT: builds the kernel of the VM scenarios as OUT (a bzImage).
#
# SOURCE is a kernel tree, its tar archive, or a distribution's source package (on Debian
# `apt-get download linux-source-7.3`, from 7.3 on for the handover scenarios). It is left as it is.
# Needs: build-essential flex bison bc libelf-dev libssl-dev lz4; about 20 minutes of two cores.
set -eu
[ $# = 2 ] || { sed -n 's/^# //p' "$0" | head -n 1 >&2; exit 1; }
source=$(realpath "$1")
out=$(realpath -m "$2")
fragment=$(dirname "$(realpath "$0")")/kernel.config

for tool in make gcc flex bison bc lz4; do
    command -v "$tool" >/dev/null || { echo "build-kernel.sh: no $tool (see the head of this file)" >&2; exit 1; }
done
work=$(mktemp -d "${TMPDIR:-/var/tmp}/kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT

case $source in
*.deb)
    dpkg-deb -x "$source" "$work/package"
    source=$(find "$work/package/usr/src" -maxdepth 1 -name 'linux-source-*.tar*' | head -n 1)
    [ -n "$source" ] || { echo "build-kernel.sh: $1 holds no kernel source" >&2; exit 1; }
    ;;
esac
if [ -f "$source" ]; then
    mkdir "$work/tree"
    tar -xf "$source" -C "$work/tree" --strip-components=1
    source=$work/tree
fi

build=$work/build
mkdir "$build"
make -s -C "$source" "O=$build" x86_64_defconfig
(cd "$build" && "$source/scripts/kconfig/merge_config.sh" -m -O "$build" .config "$fragment" >/dev/null)
make -s -C "$source" "O=$build" olddefconfig

# A switch whose dependencies are not met vanishes without a word.
lost=0
while read -r line; do
    case $line in
    CONFIG_*) grep -qxF "$line" "$build/.config" && continue ;;
    '# CONFIG_'*)
        name=${line#\# }
        grep -q "^${name%% *}=" "$build/.config" || continue
        ;;
    *) continue ;;
    esac
    echo "build-kernel.sh: not in effect: $line" >&2
    lost=1
done <"$fragment"
[ "$lost" = 0 ] || exit 1

make -s -C "$source" "O=$build" "-j$(nproc)" bzImage
cp "$build/arch/x86/boot/bzImage" "$out"
ls -l "$out"
