#!/bin/sh
# install-units.sh DESTDIR BINDIR UNITDIR GENERATORDIR: the units and the generator for systemd.
#
# systemd 261 and newer has units of the same names: they are never replaced, and nothing is
# written when one is there.
set -eu
cd "$(dirname "$0")/../.."
bindir=$2 units=$1$3 generators=$1$4
generator=$generators/systemd-imds-generator

foreign=
for unit in applets/*/units/*; do
    there=$units/${unit##*/}
    [ ! -e "$there" ] || grep -q "^ExecStart=-*[^ ]*/slipway \|^# slipway" "$there" || foreign="$foreign $there"
done
if [ -e "$generator" ] || [ -L "$generator" ]; then
    case $(readlink "$generator") in */slipway) ;; *) foreign="$foreign $generator" ;; esac
fi
if [ -n "$foreign" ]; then
    echo "install-units: these are somebody else's, nothing was written:$foreign" >&2
    exit 1
fi

mkdir -p "$units" "$generators"
for unit in applets/*/units/*; do
    # Systemd's sockets have no program in them that could tell whose they are.
    { echo "# slipway"; sed "s,/usr/bin/slipway,$bindir/slipway,g" "$unit"; } >"$units/.slipway.new"
    chmod 0644 "$units/.slipway.new"
    mv "$units/.slipway.new" "$units/${unit##*/}"
done
ln -sfn "$bindir/slipway" "$generator"
