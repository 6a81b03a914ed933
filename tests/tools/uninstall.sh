#!/bin/sh
# uninstall.sh DIR: removes DIR/slipway and every applet link that leads to it, nothing else.
set -eu
dir=$1
[ -e "$dir/slipway" ] || { echo "uninstall: no '$dir/slipway'" >&2; exit 1; }
"$dir/slipway" --list | while read -r name; do
    if [ "$name" != slipway ] && [ "$dir/$name" -ef "$dir/slipway" ]; then
        rm "$dir/$name"
    fi
done
rm "$dir/slipway"
