#!/usr/bin/env bash
# Ansible's keyword `timeout:` ends the wait, not the work.
#
# Guess:    a task that reached its `timeout:` was stopped on the device, so that the next task finds a quiet device.
# Truth:    only the controller stops waiting. What the module started goes on and ends its work, here ten seconds after
#           "Timed out". (`async:` with a limit does end its process.)
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    a play that reverts a device because its update timed out races with that update, which may end last.
#           Whatever reverts must wait for a lock on the device or ask the device what it became.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

cat >"$folder/play.yml" <<'EOF'
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.shell: sleep 20; date >"$DONE"
      environment: {DONE: "{{ done_file }}"}
      timeout: 10 # long enough for a busy machine to begin the work
      ignore_errors: true
      register: work
    - ansible.builtin.copy:
        content: "{{ 'timed out' if work.msg is search('(?i)timed out') else work.msg }}"
        dest: "{{ done_file }}.verdict"
EOF

# try NAME: the play by that environment's ansible-core, and what is there before and after the work's own end.
try() {
    local done_file="$folder/$1.done"
    playbook "$1" -i localhost, play.yml -e "done_file=$done_file"
    expect "the task's verdict" "timed out" "$(cat "$done_file.verdict")"
    for _ in {1..600}; do
        [ -e "$done_file" ] && break
        sleep 0.1
    done
    expect "the work ended all the same" yes "$([ -e "$done_file" ] && echo yes || echo no)"
}

install oldest ansible-core==2.19.14
try oldest
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
