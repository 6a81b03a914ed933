#!/bin/busybox sh
# The first process on the disk that repart made: a root that Verity guards, and a place for data.
# shellcheck shell=dash source=/dev/null
. /words

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t tmpfs tmpfs /run
/bin/busybox mkdir /run/bin /run/esp /run/data
/bin/busybox --install -s /run/bin
export PATH=/run/bin:/usr/bin:/bin

grep -q '^[^ ]* / ext4 ro' /proc/mounts || fail root "$(head -n 1 /proc/mounts)"
[ "$(cat /sys/block/dm-0/dm/name)" = root ] || fail root 'not from dm-verity'
# Every block of every file goes through the hash tree.
must root sha256sum -c -s /sums
pass root

# The node of the partition with a label.
node() {
    for device in /sys/class/block/vda*; do
        grep -qx "PARTNAME=$1" "$device/uevent" && echo "/dev/${device##*/}"
    done
}

must esp mount -t vfat -o ro,utf8 "$(node esp)" /run/esp
(cd /run/esp && must esp sha256sum -c -s /sums-of-esp)
must esp umount /run/esp
pass esp

must data mount -t ext4 "$(node data)" /run/data
if [ -e /run/data/written ]; then
    [ "$(cat /run/data/written)" = 'by the first boot' ] || fail again 'other contents'
    pass again
else
    must data sh -c 'echo by the first boot >/run/data/written'
    pass data
fi
must data umount /run/data
end
