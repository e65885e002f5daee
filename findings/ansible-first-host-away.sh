#!/usr/bin/env bash
# One host that is away takes every host of its batch, or of the whole run, along.
#
# Guess:    a host that cannot be reached leaves the play, and the others go on.
# Truth:    true of a plain task. But a `run_once` task is tried on the first host only: when that one is away, all the others
#           end there, and the recap does not name them. And when the hosts of one batch (`serial: 1`: the canary) or of one play
#           are all away, the whole run ends: later batches, and later plays for other hosts, do not begin.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    a device without power that comes first in the inventory stops the update of all of them; the last play, which
#           writes the report, does not run, and the recap shows one host. Plan on localhost, and ignore what is unreachable.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

cat >"$folder/hosts" <<EOF
gone ansible_host=127.0.0.1 ansible_port=$(unused_port)
cam1 ansible_connection=local
cam2 ansible_connection=local
EOF
cat >"$folder/plain.yml" <<'EOF'
- hosts: gone,cam1,cam2
  gather_facts: false
  tasks: [{ansible.builtin.ping: }]
EOF
cat >"$folder/once.yml" <<'EOF'
- hosts: gone,cam1,cam2
  gather_facts: false
  tasks:
    - {ansible.builtin.command: echo plan, run_once: true}
    - ansible.builtin.ping:
EOF
cat >"$folder/canary.yml" <<'EOF'
- hosts: gone,cam1,cam2
  gather_facts: false
  serial: [1, 100%]
  max_fail_percentage: 100
  tasks: [{ansible.builtin.ping: }]
- hosts: cam2
  gather_facts: false
  tasks: [{ansible.builtin.ping: }]
EOF

# named: the hosts of the recap, which are all that the run tells of
named() { sed -n '/^PLAY RECAP/,$ s/ *: ok=.*//p' "$folder/log" | sort | paste -sd ' '; }

# try NAME
try() {
    playbook "$1" -i hosts plain.yml
    expect "a plain task: exit code, recap" "4 cam1 cam2 gone" "$code $(named)"
    playbook "$1" -i hosts once.yml
    expect "run_once: exit code, recap" "4 gone" "$code $(named)"
    playbook "$1" -i hosts canary.yml
    expect "the canary away: exit code, recap" "4 gone" "$code $(named)"
}

install oldest ansible-core==2.19.14
try oldest
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
