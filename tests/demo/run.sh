#!/bin/sh
# run.sh TARGET: a signed A/B update, as its user sees it. Needs neither root nor a network; all that
# it makes lies in one temporary directory. KEEP=1 leaves that there.
set -eu
target=$1

# Without musl's compiler wrapper and without root to install it, an ordinary binary does for a look.
case $target in x86_64-*-musl)
    if ! command -v musl-gcc >/dev/null 2>&1 && [ "$(id -u)" != 0 ]; then
        echo "demo: no musl-gcc (apt-get install musl-tools makes the static binary); building an ordinary one"
        target=$(rustc -vV | sed -n 's/^host: //p')
    fi ;;
esac

out=${CARGO_TARGET_DIR:-target}
echo "demo: building slipway for $target (a few minutes the first time)"
make --no-print-directory static "TARGET=$target"
echo "demo: building the vendor's side"
cargo build --locked --quiet --example world
world=$out/debug/examples/world

dir=$(mktemp -d "${TMPDIR:-/tmp}/slipway-demo.XXXXXX")
vendor=
cleanup() {
    exec 3>&- 4<&- || true
    [ -z "$vendor" ] || wait "$vendor" || true
    [ -n "${KEEP:-}" ] && echo "demo: everything is in $dir" || rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkfifo "$dir/to" "$dir/from"
"$world" serve "$dir" <"$dir/to" >"$dir/from" &
vendor=$!
exec 3>"$dir/to" 4<"$dir/from"
read -r _ <&4
vendor() {
    echo "$*" >&3
    read -r _ <&4
}

mkdir "$dir/bin"
"$out/$target/release/slipway" --install "$dir/bin" >/dev/null 2>&1 || ln -s "$(realpath "$out/$target/release/slipway")" "$dir/bin/slipway"
ln -sf "$(realpath "$out/$target/release/slipway")" "$dir/bin/slipway"
PATH=$dir/bin:$PATH
export SYSTEMD_OPENPGP_KEYRING="$dir/vendor.pgp"
cd "$dir"
update() {
    printf '\n$ slipway update %s\n' "$*"
    slipway update --definitions="$dir/sysupdate.d" "$@" 2>&1
}
look() { printf '\n# the disk:\n'; "$world" show "$dir/disk.img"; }

echo
echo "== A disk with two free slots; the vendor publishes version 1, signed"
cat sysupdate.d/50-root.transfer
case $world in /*) ;; *) world=$OLDPWD/$world ;; esac
look
vendor publish 1
update update
look

echo
echo "== The vendor publishes version 2"
vendor publish 2
update list
update check-new
update update
look
update list

echo
echo "== Somebody without the vendor's key publishes version 3"
vendor tamper 3
if update update; then
    echo "demo: an unsigned version was accepted" >&2
    exit 1
fi
look
echo
echo "demo: done. Version 2 is live, version 1 is still there to fall back to, version 3 never got in."
