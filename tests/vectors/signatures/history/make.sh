#!/bin/sh
# Makes the certificates with a history afresh, in the current directory. Needs GnuPG 2.2 or later.
set -eu
export GNUPGHOME=$PWD/home LC_ALL=C
rm -rf home; mkdir -m 700 home
at() { when=$1; shift; gpg --batch --yes --quiet --pinentry-mode loopback --passphrase '' --faked-system-time "$when!" "$@"; }
key() { at "$1" --quick-gen-key "$2 <$2@example.invalid>" ed25519 sign,cert "$3"; }
fpr() { gpg --batch --with-colons --list-keys "$1@example.invalid" | awk -F: '$1=="fpr"{print $10; exit}'; }
sub() { gpg --batch --with-colons --list-keys "$1@example.invalid" | awk -F: '$1=="sub"{f=1} f&&$1=="fpr"{print $10; exit}'; }
sign() { at "$1" --local-user "$2" --detach-sign --output "$3.sig" data; }
edit() { # when fingerprint answer…
	when=$1 key=$2; shift 2
	printf '%s\n' "$@" | gpg --quiet --no-tty --command-fd 0 --pinentry-mode loopback --passphrase '' --faked-system-time "$when!" \
		--edit-key "$key" >/dev/null; }
export_() { gpg --batch --yes --quiet --export --output "$2.pgp" "$1@example.invalid"; }
printf 'signed data\n' >data

# Lifetime extended before the first one ended: only the newest statement counts.
key 20240101T000000 extended 1y
export_ extended extended-before
at 20241201T000000 --quick-set-expire "$(fpr extended)" 20y
sign 20250601T000000 "$(fpr extended)" extended
export_ extended extended
# Lifetime shortened: what was signed before is older than the end, but the key is over now.
key 20240101T000000 shortened never
sign 20240201T000000 "$(fpr shortened)" shortened
at 20240301T000000 --quick-set-expire "$(fpr shortened)" 1y
export_ shortened shortened
# One of two user ids revoked: the other one holds the key.
key 20240101T000000 two never
at 20240102T000000 --quick-add-uid "$(fpr two)" 'other <other@example.invalid>'
at 20240103T000000 --quick-revoke-uid "$(fpr two)" 'two <two@example.invalid>' 2>/dev/null
sign 20240201T000000 "$(fpr two)" two
gpg --batch --yes --quiet --export --output two.pgp "$(fpr two)"
# Binding statements made with SHA-1, as in old distribution keys.
at 20240101T000000 --cert-digest-algo SHA1 --quick-gen-key 'old <old@example.invalid>' rsa3072 sign,cert never
sign 20240201T000000 "$(fpr old)" old
export_ old old
# Subkeys: a good one, the same revoked, and one whose primary key is over.
at 20240101T000000 --quick-gen-key 'sub <sub@example.invalid>' ed25519 cert never
at 20240102T000000 --quick-add-key "$(fpr sub)" ed25519 sign never
sign 20240201T000000 "$(sub sub)!" sub
export_ sub sub
edit 20240301T000000 "$(fpr sub)" 'key 1' revkey y 0 '' y save
export_ sub sub-revoked
at 20240101T000000 --quick-gen-key 'over <over@example.invalid>' ed25519 cert 1y
at 20240102T000000 --quick-add-key "$(fpr over)" ed25519 sign never
sign 20240201T000000 "$(sub over)!" over
export_ over over
gpgconf --kill all
rm -rf home
