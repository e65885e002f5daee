#!/usr/bin/env bash
# Supervisor's control socket is there before Supervisor listens on it, and stays there when Supervisor was killed.
#
# Guess:    a program that makes its socket under another name and links it into place does so to show it only when it can be used: once
#           the file is there, `supervisorctl` and the XML-RPC interface answer.
# Truth:    bind and link come first, then owner and log, and only then `listen`: who connects when the file appears is refused. After
#           SIGKILL (the kernel's out-of-memory killer, a power cut) the file stays, and every command is refused until the next start.
#           `supervisorctl` says "refused connection" for both, and ends with 4; without the file it says "no such file", also with 4.
# Versions: supervisor 4.3.0.
# Fleet:    what waits for the file, a container's entry point or an update that restarts Supervisor, fails on the slow devices of a wave,
#           once in a while; what takes the file for a running Supervisor is wrong after a crash. Wait for an answer, not for a file.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here supervisor==4.3.0 setuptools==80.9.0
socket=$folder/supervisor.sock
cat >"$folder/supervisord.conf" <<EOF
[supervisord]
logfile=$folder/supervisord.log
pidfile=$folder/supervisord.pid
nodaemon=true
[unix_http_server]
file=$socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://$socket
EOF
# A client that is as quick as can be: it connects in the moment in which the file has its name.
mkdir "$folder/watch"
cat >"$folder/watch/sitecustomize.py" <<EOF
import os, socket

link = os.link


def link_and_connect(source, target, **options):
    link(source, target, **options)
    with socket.socket(socket.AF_UNIX) as client, open("$folder/seen", "w") as seen:
        try:
            client.connect(target)
            seen.write("answered")
        except ConnectionRefusedError:
            seen.write("refused")


os.link = link_and_connect
EOF

supervisor=$folder/here/bin/supervisord
start() {
    PYTHONPATH=$folder/watch "$supervisor" -c "$folder/supervisord.conf" >/dev/null 2>&1 &
    started+=($!)
    for _ in {1..300}; do
        case $(control pid) in *[!0-9]* | '') sleep 0.1 ;; *) return ;; esac
    done
}
control() { "$folder/here/bin/supervisorctl" -c "$folder/supervisord.conf" "$@" 2>&1 || true; }
# says: what supervisorctl says, and its exit code
says() {
    local code=0
    "$folder/here/bin/supervisorctl" -c "$folder/supervisord.conf" status >"$folder/log" 2>&1 || code=$?
    printf '%s, exit code %s\n' "$(grep -oE 'refused connection|no such file' "$folder/log" || echo answered)" "$code"
}

expect "before the first start" "no such file, exit code 4" "$(says)"
start
expect "a client in the moment in which the file appears" refused "$(cat "$folder/seen")"
expect "some time later" "answered, exit code 0" "$(says)"
kill -KILL "$(cat "$folder/supervisord.pid")"
{ wait "${started[0]}" || true; } 2>/dev/null
expect "killed: the file is there" yes "$(if [ -S "$socket" ]; then echo yes; else echo no; fi)"
expect "killed" "refused connection, exit code 4" "$(says)"
finish
