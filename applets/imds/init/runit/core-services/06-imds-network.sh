# shellcheck shell=sh # read by /etc/runit/1
/usr/lib/slipway/imds-boot network || echo "imds-network: failed with status $?"
