# Words for scenarios: what they say to the outside, and how they look at things.
# shellcheck shell=dash
set -u
export PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8

# pass STEP
pass() { echo "slipway-test: PASS $1"; }

# fail STEP WHY: says so, and all that may explain it.
fail() {
    echo "slipway-test: FAIL $1: $2"
    ip addr 2>/dev/null
    dmesg | tail -n 30
    end
}

# must STEP COMMAND…: the command has to succeed.
must() {
    step=$1
    shift
    "$@" || fail "$step" "'$*': exit status $?"
}

# status STEP STATUS COMMAND…: the command has to end with this status.
status() {
    step=$1 want=$2
    shift 2
    "$@"
    set -- $? "$*"
    [ "$1" = "$want" ] || fail "$step" "'$2': exit status $1, not $want"
}

# same STEP EXPECTED GOT: two files have the same bytes.
same() {
    cmp "$2" "$3" && return
    diff "$2" "$3"
    fail "$1" "$3 is not what was expected"
}

# mode STEP OCTAL PATH
mode() {
    got=$(stat -c %a "$3") || fail "$1" "no $3"
    [ "$got" = "$2" ] || fail "$1" "$3 has mode $got, not $2"
}

# online: an address by DHCP.
online() {
    ip link set lo up
    ip link set eth0 up
    udhcpc -q -n -f -i eth0 -s /bin/dhcp-event >/dev/null || fail online "no address by DHCP"
}

# end: off. QEMU ends, because a restart is forbidden.
end() {
    sync
    reboot -f
    # The restart comes within milliseconds; the first process must not end before.
    while :; do sleep 1; done
}
