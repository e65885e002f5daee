# shellcheck shell=bash
# The Docker Engine and the emulation of ARM. To be sourced.

engine_answers() { .venv/bin/python -c 'import docker; docker.from_env(timeout=10).ping()' 2>/dev/null; }

# start_engine: take the engine that answers; else start one, by systemd or by hand, and wait for it.
start_engine() {
    local log="$logs/dockerd.log" dockerd=/usr/sbin/dockerd deadline
    if engine_answers; then
        say "the Docker Engine answers"
        return
    fi
    if [ -d /run/systemd/system ]; then
        say "starting docker.service (its log: journalctl -u docker)"
        systemctl start docker
    else
        [ -x "$dockerd" ] || dockerd=$(command -v dockerd) || die "no dockerd: apt-get install docker.io"
        say "starting $dockerd by hand, since systemd does not run here (its log: $log)"
        engine_is_ours || rm -f "$dockerd_pid"
        setsid nohup "$dockerd" --pidfile "$dockerd_pid" >"$log" 2>&1 </dev/null 9>&- &
    fi
    deadline=$((SECONDS + 60))
    until engine_answers; do
        if ((SECONDS > deadline)); then
            tail -n 20 "$log" 2>/dev/null | sed 's/^/    | /' >&2
            die "the Docker Engine does not answer after 60 s" "its log: $log (with systemd: journalctl -u docker)"
        fi
        sleep 1
    done
    say "the Docker Engine answers"
}

# engine_is_ours: whether the Docker Engine that the set-up of this clone started by hand still runs.
engine_is_ours() {
    local pid
    pid=$(cat "$dockerd_pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}

# register_emulators: let the kernel run 64-bit and 32-bit ARM programs through qemu, in containers too (flag F: the
# interpreter is opened once, here) and with their set-uid bits (flag C: without it sudo on a device is not root). Debian's
# own entries have no C. The kernel asks the newest entry first, so ours go beside them.
register_emulators() {
    local entries=/proc/sys/fs/binfmt_misc
    if [ "$(dpkg --print-architecture)" = arm64 ]; then
        say "this machine is aarch64 itself"
        return
    fi
    if [ ! -e "$entries/register" ]; then
        mount -t binfmt_misc binfmt_misc "$entries" ||
            die "cannot mount binfmt_misc" "it needs root outside a container, and a kernel with CONFIG_BINFMT_MISC"
    fi
    register_emulator aarch64 arm64 \
        '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' \
        '\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    register_emulator arm armhf \
        '\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00' \
        '\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
}

# register_emulator PROCESSOR ARCHITECTURE MAGIC MASK: one of them, as qemu calls it and as Debian does; what its programs
# begin with.
register_emulator() {
    local entries=/proc/sys/fs/binfmt_misc interpreter flags ours=edgeml-$1
    if [ ! -e "$entries/$ours" ]; then
        [ -e "$entries/qemu-$1" ] || update-binfmts --enable "qemu-$1"
        interpreter=$(sed -n 's/^interpreter //p' "$entries/qemu-$1")
        flags=$(sed -n 's/^flags: //p' "$entries/qemu-$1" | tr -d OCF)OCF
        say "registering $interpreter with the flags $flags"
        echo ":$ours:M::$3:$4:$interpreter:$flags" >"$entries/register"
    fi
    arch-test "$2" >/dev/null || die "programs for $2 do not run here" "see $entries/$ours"
    say "programs for $2 run, by $(sed -n 's/^interpreter //p' "$entries/$ours")"
}

# unregister_emulators: take away what register_emulators added.
unregister_emulators() {
    local entry
    for entry in /proc/sys/fs/binfmt_misc/edgeml-{aarch64,arm}; do
        if [ -e "$entry" ]; then
            echo "unregistering ${entry##*/}"
            echo -1 >"$entry"
        fi
    done
}
