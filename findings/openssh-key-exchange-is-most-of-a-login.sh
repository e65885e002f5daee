#!/usr/bin/env bash
# OpenSSH 9.2 spends most of the processor time of a login on its default key exchange.
#
# Guess:    what a controller pays for a device is Ansible's: its process for each task, templates, modules. A handshake of ssh is
#           about as expensive as one of TLS, a few milliseconds.
# Truth:    the default of OpenSSH 9.0 to 9.8, sntrup761x25519-sha512, takes several times as much processor time as all
#           the rest of a login with curve25519-sha256: 80 ms instead of 12 on the machine where it was first seen. The server, the
#           device, pays as well.
# Versions: openssh-client and openssh-server 9.2p1 of Debian 12.
# Fleet:    it is a third of what one more device costs a rollout, and ControlPersist saves only what comes after the first login.
#           Keep connections open from run to run (ControlPersist=10m), or choose KexAlgorithms for your devices and know the
#           trade: curve25519-sha256 does not protect a recording against a quantum computer. OpenSSH 9.9 has a hybrid that is not
#           measured here, mlkem768x25519-sha256.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || cannot "sshd needs root here"
unpack openssh-server openssh-client libwrap0
version=$("$folder/debian/usr/bin/ssh" -V 2>&1)
printf '%s\n' "$version"
case $version in OpenSSH_9.[0-8]*) ;; *) cannot "this Debian's OpenSSH has another default" ;; esac

port=$(unused_port)
for name in key host_key; do ssh-keygen -q -t ed25519 -N '' -f "$folder/$name"; done
cat >"$folder/sshd_config" <<EOF
ListenAddress 127.0.0.1
Port $port
HostKey $folder/host_key
AuthorizedKeysFile $folder/key.pub
StrictModes no
UsePAM no
PidFile none
EOF
# The user without rights that the server is before a login, for the server alone.
{ cat /etc/passwd && echo 'sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin'; } >"$folder/passwd"
mkdir -p /run/sshd
# shellcheck disable=SC2016
unshare --mount sh -euc 'mount --bind "$1/passwd" /etc/passwd; exec "$1/debian/usr/sbin/sshd" -D -f "$1/sshd_config"' \
    - "$folder" 2>"$folder/log" &
started+=("$!")
listens "$port"

# login OPTION…: log in once.
login() {
    "$folder/debian/usr/bin/ssh" -F none -i "$folder/key" -p "$port" -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null "$@" root@127.0.0.1 true || cannot "no login: $(cat "$folder/log")"
}

# milliseconds OPTION…: the client's processor time for ten logins.
milliseconds() {
    local TIMEFORMAT='%U %S' took
    took=$({ time for _ in {1..10}; do login -q "$@"; done; } 2>&1)
    awk '{ printf "%d", 1000 * ($1 + $2) }' <<<"$took"
}

agreed=$(login -v 2>&1 | sed -n 's/.*kex: algorithm: //p' | tr -d '\r')
expect "the default" sntrup761x25519-sha512 "${agreed%@*}"
usual=$(milliseconds)
cheap=$(milliseconds -o KexAlgorithms=curve25519-sha256)
printf '  ten logins: %s ms of processor time by default, %s with curve25519-sha256\n' "$usual" "$cheap"
expect "by default at least three times as much" yes "$( ((usual > 3 * cheap)) && echo yes || echo no)"
finish
