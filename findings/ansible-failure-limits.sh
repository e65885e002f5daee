#!/usr/bin/env bash
# Ansible's two brakes, `any_errors_fatal` and `max_fail_percentage`, let go when devices are away.
#
# Guess:    `max_fail_percentage: 0` or `any_errors_fatal: true` ends a rollout at the first device that is lost or fails, and the
#           exit code tells a failure (2) from an absence (4).
# Truth:    hosts that are away count for neither. One failure ends the run, as expected; but one failure and one absence in the
#           same task end only that batch, and the next batches are updated. With `any_errors_fatal` the exit code is then that of
#           the absence alone, 4.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    a release that breaks devices goes on through all batches, as long as in each batch another device happens to be
#           offline, and a script that allows for "4: some were away" calls it good.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

port=$(unused_port)
for batch in a b c; do
    printf '%s1 ansible_host=127.0.0.1 ansible_port=%s\n%s2 ansible_connection=local\n%s3 ansible_connection=local\n' \
        "$batch" "$port" "$batch" "$batch"
done >"$folder/hosts"
# play BRAKE: one device of each batch may be away, one may fail
play() {
    cat <<EOF
- hosts: all
  gather_facts: false
  serial: 3
  $1
  tasks:
    - ansible.builtin.command: "{{ 'false' if inventory_hostname[1] == '2' and fails | bool else 'true' }}"
      when: inventory_hostname[1] != '1' or away | bool
EOF
}
play "any_errors_fatal: true" >"$folder/errors.yml"
play "max_fail_percentage: 0" >"$folder/percentage.yml"

# run NAME BRAKE FAILS AWAY: exit code and how many of the three batches were begun
run() {
    playbook "$1" -i hosts "$2.yml" -e "fails=$3" -e "away=$4"
    echo "exit code $code, batches $(grep -c '^TASK' "$folder/log")"
}

# try NAME
try() {
    local brake
    for brake in errors percentage; do
        expect "$brake, one fails in each batch" "exit code 2, batches 1" "$(run "$1" $brake true false)"
        expect "$brake, one is away in each batch" "exit code 4, batches 3" "$(run "$1" $brake false true)"
    done
    expect "errors, one fails and one is away in each batch" "exit code 4, batches 3" "$(run "$1" errors true true)"
    expect "percentage, one fails and one is away in each batch" "exit code 2, batches 3" "$(run "$1" percentage true true)"
}

install oldest ansible-core==2.19.14
try oldest
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
