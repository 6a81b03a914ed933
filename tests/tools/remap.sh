#!/bin/sh
# remap.sh CHECKOUT: compiler flags that keep this machine's paths out of the binary.
# The registry directory exists only once something was fetched.
cargo fetch --locked --quiet
cargo_home=${CARGO_HOME:-$HOME/.cargo}
printf -- '--remap-path-prefix=%s=slipway --remap-path-prefix=%s=rust' "$1" "$(rustc --print sysroot 2>/dev/null)"
# The directory below registry/src is named after the registry: give each the same fixed name.
for dir in "$cargo_home"/registry/src/*/; do
    [ -d "$dir" ] && printf -- ' --remap-path-prefix=%s=crates' "${dir%/}"
done
printf -- ' --remap-path-prefix=%s=cargo\n' "$cargo_home"
