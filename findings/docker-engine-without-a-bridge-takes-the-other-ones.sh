#!/usr/bin/env bash
# A second Docker Engine that wants no bridge removes the bridge of the first.
#
# Guess:    `dockerd --bridge=none`, with directories and a socket of its own, has nothing to do with the engine that runs: it sets
#           up no network.
# Truth:    when it starts it deletes the interface docker0, whoever made it. The first engine says nothing, goes on, and its
#           containers run; each container that it starts from then on fails (could not find bridge docker0), until it restarts.
#           With `--bridge=NAME` of a bridge that is there, the second engine leaves docker0 alone.
# Versions: docker.io 20.10.24, containerd 1.6.20, runc 1.1.5 of Debian 12. In a network of its own.
# Fleet:    a device that runs an engine for its own use beside the system's (a build, a test, balenaEngine's settings) cuts the
#           containers of the other from the network with the next restart of any of them, long after, and no log names the cause.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || cannot "an engine needs root"
command -v ip >/dev/null || cannot "no ip: apt-get install iproute2"
unshare --net --mount true 2>/dev/null || cannot "unshare: namespaces of networks and mounts are not allowed here"
unpack docker.io=20.10.24+dfsg1-1+deb12u1+b6 containerd=1.6.20~ds1-1+deb12u3 runc=1.1.5+ds1-1+deb12u1

cat >"$folder/engines" <<'EOF'
set -u
export PATH="$1/debian/usr/bin:$1/debian/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
pids=

# engine NAME OPTION…: start an engine, and wait until it answers.
engine() {
    name=$1 place=$2/$1
    shift 2
    mkdir -p "$place"
    dockerd --host="unix://$place/socket" --data-root="$place/data" --exec-root="$place/run" --pidfile="$place/pid" \
        --iptables=false --ip6tables=false "$@" >"$place/log" 2>&1 &
    pids="$pids $!"
    for _ in $(seq 100); do
        if docker --host "unix://$place/socket" version >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    echo "$name does not answer: $(tail -n 1 "$place/log")" >&2
}

bridge() { if ip link show docker0 >/dev/null 2>&1; then echo there; else echo gone; fi; }

ip link set lo up
engine first "$1"
echo "first: $(bridge)"
ip link add other type bridge
ip address add 192.0.2.1/24 dev other
engine second "$1" --bridge=other
echo "second, with a bridge: $(bridge)"
engine third "$1" --bridge=none
echo "third, with none: $(bridge)"
if docker --host "unix://$1/first/socket" version >/dev/null 2>&1; then echo "first: answers"; fi
kill $pids
wait $pids
# What they mounted goes with this namespace.
EOF
seen=$(unshare --net --mount --propagation private bash "$folder/engines" "$folder" 2>"$folder/errors") ||
    cannot "the engines: $(tail -n 1 "$folder/errors")"
expect "docker0 when the first engine runs" "first: there" "$(sed -n 1p <<<"$seen")"
expect "when a second has another bridge" "second, with a bridge: there" "$(sed -n 2p <<<"$seen")"
expect "when a third wants none" "third, with none: gone" "$(sed -n 3p <<<"$seen")"
expect "what the first engine says of it" "first: answers" "$(sed -n 4p <<<"$seen")"
finish
