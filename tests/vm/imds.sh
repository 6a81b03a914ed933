# A cloud as an initramfs meets it: no udev, no resolver, no daemon.
# shellcheck shell=dash source=/dev/null
. /imds-words
online

must detected imds-generator --print >/tmp/detected
must detected grep -qx systemd-imdsd.socket /tmp/detected
pass detected

# The first line names the cloud.
must summary imds >/tmp/summary
same summary /expect/summary /tmp/summary
pass summary

must imported imds --import
imported imported
pass imported

# What exists stays: same inodes, same times.
state >/tmp/before
must again imds --import
state >/tmp/after
same again /tmp/before /tmp/after
pass again
