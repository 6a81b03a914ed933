#!/bin/sh
# deny.sh: the licence and dependency policy of .deny.toml. Advisories need the network and are
# left to `cargo deny check advisories`.
set -eu
command -v cargo-deny >/dev/null 2>&1 || {
    echo "make deny: installing cargo-deny (a few minutes)" >&2
    cargo install --locked --quiet cargo-deny
}
exec cargo deny --locked --all-features check --hide-inclusion-graph licenses bans sources
