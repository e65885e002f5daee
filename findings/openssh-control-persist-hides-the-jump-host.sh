#!/usr/bin/env bash
# With ControlPersist, ssh does not say what is wrong with the jump host.
#
# Guess:    a device behind a jump host that is down fails with the jump host's name and the reason, as it does by hand.
# Truth:    with ControlPersist, which Ansible sets by default, ssh sends the standard error of its ProxyCommand, and so of
#           ProxyJump, to /dev/null. All that is left is "Connection closed by UNKNOWN port 65535": the same text for a jump host that
#           is down, one that lets nobody in, and a device behind it that is away. It names no host.
# Versions: openssh-client 9.2p1 of Debian 12.
# Fleet:    a program that tells a device that is away from a link that broke, or an operator at night, has no reason to go by.
#           Take that text for "away", and find out by hand, with -o ControlPersist=no.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

command -v ssh >/dev/null || cannot "no ssh in PATH"
ssh -V 2>&1

# said PERSIST: what ssh says of a device behind a jump host on whose port nobody listens.
said() {
    ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ControlMaster=auto -o ControlPersist="$1" -o ControlPath="$folder/master" \
        -J "root@127.0.0.1:$port" root@127.0.0.1 true 2>&1 || true
}

port=$(unused_port)
without=$(said no)
with=$(said 60)
expect "without it, the jump host's address and the reason" yes \
    "$(grep -q "connect to host 127.0.0.1 port $port: Connection refused" <<<"$without" && echo yes || echo no)"
expect "with it, either of them" no "$(grep -q "127.0.0.1\|refused" <<<"$with" && echo yes || echo no)"
expect "with it, the last line" "Connection closed by UNKNOWN port 65535" "$(tail -n 1 <<<"$with" | tr -d '\r')"
finish
