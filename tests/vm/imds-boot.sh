# A busybox system: init runs the scripts of /etc/init.d in order, then the check.
# shellcheck shell=dash
cat >/etc/inittab <<'END'
::sysinit:/etc/init.d/rcS
::once:/check
END
cat >/etc/init.d/rcS <<'END'
#!/bin/sh
for script in /etc/init.d/S??*; do
    "$script" start
done
END
cat >/etc/init.d/S40network <<'END'
#!/bin/sh
. /words
online
END
cat >/check <<'END'
#!/bin/sh
. /words
. /imds-words
imported imported
pass imported
ip rule | grep -q 0x7fff0815 || fail network 'no rule for marked requests'
pass network
socket=/run/systemd/io.systemd.InstanceMetadata
[ -S "$socket" ] || fail daemon "no $socket"
must daemon varlinkctl call "$socket" io.systemd.InstanceMetadata.GetVendorInfo '{}' >/tmp/vendor
grep -q "\"$(cat /expect/vendor)\"" /tmp/vendor || fail daemon "$(cat /tmp/vendor)"
must daemon imds >/tmp/summary
same daemon /expect/summary /tmp/summary
pass daemon
must stopped /etc/init.d/S45imds stop
must stopped /etc/init.d/S35imds-network stop
ip rule | grep -q 0x7fff0815 && fail stopped 'the rule is still there'
pass stopped
end
END
chmod 0755 /check /etc/init.d/*
exec /bin/init
