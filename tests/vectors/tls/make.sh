#!/bin/sh
# Makes the certificates of the TLS tests afresh: two roots; leaves of the first for this machine, for another name, and
# one long over.
set -eu
cat >ca.cnf <<'X'
[ca]
default_ca = it
[it]
database = ./index.txt
serial = ./serial
new_certs_dir = .
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[good]
subjectAltName = IP:127.0.0.1,DNS:localhost
extendedKeyUsage = serverAuth
[name]
subjectAltName = DNS:other.invalid
extendedKeyUsage = serverAuth
[over]
subjectAltName = IP:127.0.0.1,DNS:localhost
extendedKeyUsage = serverAuth
X
: >index.txt
echo 01 >serial
sign() { # name section from to issuer-options
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=slipway test $1"
	name=$1 section=$2 from=$3 to=$4
	shift 4
	openssl ca -batch -config ca.cnf -notext -in "$name.csr" -out "$name.pem" -extensions "$section" -startdate "$from" -enddate "$to" "$@"
}
sign root root 20200101000000Z 21200101000000Z -selfsign -keyfile root.key
sign stranger root 20200101000000Z 21200101000000Z -selfsign -keyfile stranger.key
sign good good 20200101000000Z 21200101000000Z -cert root.pem -keyfile root.key
sign name name 20200101000000Z 21200101000000Z -cert root.pem -keyfile root.key
sign over over 20200101000000Z 20210101000000Z -cert root.pem -keyfile root.key
rm -f root.key stranger.key ./*.csr ca.cnf index.txt* serial* 0?.pem
