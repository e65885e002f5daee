#!/usr/bin/env bash
# Supervisor's `restart` runs the old command, and `update` starts what an operator had stopped.
#
# Guess:    after the configuration was changed, `reread` takes it in and `restart NAME` starts the program by it; a program that
#           an operator stopped stays stopped until somebody starts it.
# Truth:    `reread` says "changed" and changes nothing; `restart` runs the old command with success. Only `update` takes the new
#           one, for all programs that changed, and starts them, stopped ones too.
# Versions: supervisor 4.3.0.
# Fleet:    an upgrade by reread and restart reports success while the device serves the old version; one by `update` brings back a
#           service that was stopped for a reason. Use `update NAME`, stop again what was stopped, and ask the process itself
#           for its version.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here supervisor==4.3.0 setuptools==80.9.0
# configure VERSION: both programs write that version when they start
configure() {
    cat <<EOF
[supervisord]
logfile=$folder/supervisord.log
pidfile=$folder/supervisord.pid
nodaemon=true
[unix_http_server]
file=$folder/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://$folder/supervisor.sock
EOF
    for program in server collector; do
        printf '[program:%s]\ncommand=sh -c "echo %s > %s; exec sleep 600"\nstartsecs=0\n' $program "$1" "$folder/$program"
    done
}
control() { "$folder/here/bin/supervisorctl" -c "$folder/supervisord.conf" "$@" 2>&1 || true; }
# serves: what both programs wrote last, and whether they run; waits for the starts before it
serves() {
    sleep 1
    echo "server $(cat "$folder/server") $(control status server | awk '{print $2}')," \
        "collector $(cat "$folder/collector") $(control status collector | awk '{print $2}')"
}

configure 1.0 >"$folder/supervisord.conf"
"$folder/here/bin/supervisord" -c "$folder/supervisord.conf" >/dev/null 2>&1 &
started+=($!)
for _ in {1..100}; do
    control status collector | grep -q RUNNING && break
    sleep 0.1
done
control stop collector >/dev/null
expect "at first" "server 1.0 RUNNING, collector 1.0 STOPPED" "$(serves)"
configure 2.0 >"$folder/supervisord.conf"
expect "reread says" "server: changed" "$(control reread | grep server)"
expect "restart says" "server: started" "$(control restart server | tail -n 1)"
expect "after reread and restart" "server 1.0 RUNNING, collector 1.0 STOPPED" "$(serves)"
control update >/dev/null
expect "after update" "server 2.0 RUNNING, collector 2.0 RUNNING" "$(serves)"
finish
