#!/bin/busybox sh
# The first process on a disk that has become larger: what definitions add and grow while root, and
# what grows, are mounted from it, without a device manager. The next boot finds it all as it was.
# shellcheck shell=dash source=/dev/null
. /words

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t tmpfs tmpfs /run
/bin/busybox mkdir /run/bin /run/boot /run/data
/bin/busybox --install -s /run/bin
export PATH=/run/bin:/usr/bin:/bin

# Start or size of a partition in bytes, as the kernel has it; it counts in 512, whatever sectors are.
bytes() { echo $(($(cat "/sys/class/block/vda$1/$2") * 512)); }

grep -q '^/dev/root / ext4 rw' /proc/mounts || fail root "$(head -n 1 /proc/mounts)"
[ "$(cat /sys/block/vda/queue/logical_block_size)" = "$(cat /etc/sector-size)" ] || fail root 'other sectors'
must data mount -t ext4 /dev/vda2 /run/data
MIB=1048576

if [ ! -e /etc/grown ]; then
    [ "$(bytes 2 size)" = $((32 * MIB)) ] || fail before "$(bytes 2 size) bytes"
    [ ! -e /dev/vda3 ] || fail before 'there is a third partition'
    must before sh -c 'sha256sum /run/data/one /run/data/two >/run/sums'
    pass before

    # A dry run changes nothing, and says what will be.
    must planned slipway repart --json=short >/run/planned
    [ ! -e /dev/vda3 ] || fail planned 'a dry run made a partition'
    must grown slipway repart --dry-run=no --json=short >/run/grown
    same grown /run/planned /run/grown
    [ "$(bytes 2 size)" = $((64 * MIB)) ] || fail grown "$(bytes 2 size) bytes"
    [ -b /dev/vda3 ] || fail grown 'no node of the third partition'
    [ -b /dev/vda4 ] || fail grown 'no node of the fourth partition'
    [ "$(bytes 3 size)" = $((260 * MIB)) ] || fail grown "$(bytes 3 size) bytes of the third"
    [ "$(bytes 3 start)" = $(($(bytes 2 start) + 64 * MIB)) ] || fail grown "begins at $(bytes 3 start)"
    must grown sha256sum -c -s /run/sums
    must grown sh -c ': >/etc/grown; echo written after growing >/run/data/after'
    pass grown
else
    [ "$(cat /run/data/after)" = 'written after growing' ] || fail kept 'other contents'
    must kept slipway repart --dry-run=no --json=short >/run/again
    grep -q '"activity":"\(create\|resize\)"' /run/again && fail kept "$(cat /run/again)"
    [ "$(bytes 2 size)" = $((64 * MIB)) ] || fail kept "$(bytes 2 size) bytes"
    pass kept
fi

must filled mount -t vfat -o ro,utf8 /dev/vda3 /run/boot
must filled cmp /usr/share/boot/loader/entries/vmlinuz.conf /run/boot/loader/entries/vmlinuz.conf
must filled cmp "/usr/share/boot/ünïcödé 🦀" "/run/boot/ünïcödé 🦀"
must filled umount /run/boot
must filled swapon /dev/vda4
must filled swapoff /dev/vda4
pass filled
must end umount /run/data
end
