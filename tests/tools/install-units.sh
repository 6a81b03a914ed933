#!/bin/sh
# install-units.sh DESTDIR BINDIR UNITDIR GENERATORDIR SYSUSERSDIR: the units and the generator for
# systemd, and the user of a service. systemd-sysusers makes that user, at the next boot at latest.
#
# systemd 261 and newer has units of the same names: they are never replaced, and nothing is
# written when one is there.
set -eu
cd "$(dirname "$0")/../.."
bindir=$2 units=$1$3 generators=$1$4 users=$1$5
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

mkdir -p "$units" "$generators" "$users"
for unit in applets/*/units/*; do
    # Systemd's sockets have no program in them that could tell whose they are.
    { echo "# slipway"; sed "s,/usr/bin/slipway,$bindir/slipway,g" "$unit"; } >"$units/.slipway.new"
    chmod 0644 "$units/.slipway.new"
    mv "$units/.slipway.new" "$units/${unit##*/}"
done
install -m 0644 applets/imdsd/sysusers.conf "$users/slipway-imds.conf"
ln -sfn "$bindir/slipway" "$generator"
