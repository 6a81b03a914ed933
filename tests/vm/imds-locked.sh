# Locked: who does not mark its requests does not reach the service.
# shellcheck shell=dash
online
url=http://169.254.169.254/latest/meta-data/

# reached: the service answers a program that knows nothing of marks (401: it wants a token).
reached() {
    timeout 5 wget -O /dev/null "$url" 2>&1 | grep -q 'HTTP/1.1 401'
}

reached || fail open "wget does not reach $url"
pass open

must locked imdsd --setup-network --apply
! reached || fail locked "wget still reaches $url"
must locked imds >/tmp/summary
same locked /expect/summary /tmp/summary
pass locked

# Again changes nothing.
ip rule >/tmp/rules
ip -4 route show table all >/tmp/routes
must again imdsd --setup-network --apply
ip rule >/tmp/rules.2
ip -4 route show table all >/tmp/routes.2
same again /tmp/rules /tmp/rules.2
same again /tmp/routes /tmp/routes.2
pass again

must released imdsd --setup-network --remove
reached || fail released "wget does not reach $url"
pass released
