# Words about what an import leaves behind.
# shellcheck shell=dash
made="run/credstore run/credstore.encrypted run/systemd/imds/userdata run/systemd/resolve/static.d"

# files ROOT: what import made below it, with absolute paths.
files() {
    # shellcheck disable=SC2086 # one word per path
    (cd "$1" && find $made -type f 2>/dev/null | sort | sed 's|^|/|')
}

# state: what tells a file from a new one of the same name.
state() {
    files / | xargs stat -c '%n %i %s %a %Y %Z'
}

# imported STEP: exactly what is below /expect/root is there, with the modes it should have.
imported() {
    mode "$1" 700 /run/credstore
    files /expect/root >/tmp/expected
    files / >/tmp/found
    same "$1" /tmp/expected /tmp/found
    while read -r path; do
        same "$1" "/expect/root$path" "$path"
        case $path in
        /run/credstore/*) mode "$1" 400 "$path" ;;
        *) mode "$1" 644 "$path" ;;
        esac
    done </tmp/expected
}
