#!/bin/busybox sh
# The first process of every machine: mounts, modules, links, the scenario, the end.
# shellcheck shell=dash source=/dev/null
. /words

/bin/busybox mkdir -p /dev /proc /root /run /sys /tmp /usr/bin /var
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t tmpfs -o mode=0755 tmpfs /run
/bin/busybox --install -s /bin
for module in /modules/*.ko; do
    [ ! -e "$module" ] || insmod "$module"
done

cat >/bin/dhcp-event <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
END
chmod 0755 /bin/dhcp-event

must install /bin/slipway --install /usr/bin >/dev/null
. /scenario
end
