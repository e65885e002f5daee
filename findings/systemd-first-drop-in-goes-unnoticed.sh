#!/usr/bin/env bash
# systemd does not notice a unit's first drop-in: NeedDaemonReload stays "no", and nothing warns.
#
# Guess:    whatever changes below a loaded unit's paths, `systemctl show --property=NeedDaemonReload` says "yes", and `systemctl
#           restart` warns that the unit changed on disk, until `daemon-reload`.
# Truth:    a drop-in in a directory NAME.service.d that was not there at the last `daemon-reload` is not seen: the property says "no",
#           and a restart warns of nothing and runs without it. A second drop-in in a directory that systemd knows is seen.
# Versions: systemd 252 (Debian 12).
# Fleet:    automation that asks NeedDaemonReload before it reloads, and an operator who waits for the warning, both leave a memory limit
#           or a sandbox setting out of force, on the devices where it was the first drop-in. Reload after each change of a file.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

systemd=/usr/lib/systemd/systemd
[ -x "$systemd" ] || cannot "no $systemd: apt-get install systemd"
"$systemd" --version | head -n 1
export XDG_RUNTIME_DIR=$folder
units=$folder/systemd/user
mkdir -p "$units"
printf '[Service]\nExecStart=sleep 600\n' >"$units/server.service"
# A user's service manager; it runs only where it finds /run/systemd/system, which nobody else is to see.
# shellcheck disable=SC2016
unshare --mount --propagation private sh -c \
    'mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec "$0" --user' "$systemd" \
    >"$folder/log" 2>&1 &
started+=($!)
for _ in {1..200}; do
    [ -e "$folder/systemd/private" ] && break
    sleep 0.1
done
[ -e "$folder/systemd/private" ] || cannot "no service manager: $(tail -n 1 "$folder/log")"

# shown PROPERTY: what systemd says of the unit.
shown() { systemctl --user show --property="$1" --value server.service; }
# drop_in NAME: add a drop-in, in another second than what is there, and say what systemd says of the unit.
drop_in() {
    sleep 1.1
    mkdir -p "$units/server.service.d"
    printf '[Service]\nEnvironment=%s=yes\n' "$1" >"$units/server.service.d/$1.conf"
    shown NeedDaemonReload
}
# warnings: how many lines a restart says.
warnings() { systemctl --user restart server.service 2>&1 | wc -l; }

systemctl --user start server.service
expect "NeedDaemonReload after the first drop-in" no "$(drop_in first)"
expect "lines that a restart says then" 0 "$(warnings)"
expect "what it runs with" "" "$(shown Environment)"
systemctl --user daemon-reload
expect "and after daemon-reload" first=yes "$(shown Environment)"
expect "NeedDaemonReload after the second drop-in" yes "$(drop_in second)"
expect "lines that a restart says then" 1 "$(warnings)"
finish
