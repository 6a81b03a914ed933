#!/bin/busybox sh
# The first process beside an encrypted partition that the kernel has opened by itself.
# shellcheck shell=dash source=/dev/null
. /words

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t tmpfs tmpfs /run
/bin/busybox mkdir /run/bin /run/secret
/bin/busybox --install -s /run/bin
export PATH=/run/bin:/usr/bin:/bin

[ "$(cat /sys/block/dm-0/dm/name)" = secret ] || fail open 'not from dm-crypt'
must open mount -t ext4 /dev/dm-0 /run/secret
pass open
(cd /run/secret && must contents sha256sum -c -s /sums-of-secret)
must contents sh -c 'echo more >/run/secret/more'
must contents umount /run/secret
pass contents
end
