#!/usr/bin/env bash
# The workers of a killed `ansible-playbook` go on with their task, to the end of its loop.
#
# Guess:    after SIGKILL (the kernel's out-of-memory killer, a container that is removed) nothing more is done to a device than the
#           call that was under way.
# Truth:    each worker finishes its task: all further rounds of its `loop:`, here seven more modules. The next task is not begun.
#           SIGTERM and SIGINT end the workers as well.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    whoever starts the play again at once has two that work on the same devices, and no process by the name of the first
#           that was remembered. A task that changes devices in a loop needs a lock on the device, or one call for all of the loop.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

cat >"$folder/play.yml" <<'EOF'
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.shell: sleep 1; echo {{ item }} >>{{ log_file }}
      loop: "{{ range(8) | list }}"
    - ansible.builtin.shell: echo next >>{{ log_file }}
EOF

# rounds NAME SIGNAL: how far the play came that got this signal after the first round.
rounds() {
    local log_file="$folder/$1.$2" pid
    (cd "$folder" && ANSIBLE_HOME=$folder/ansible ANSIBLE_PYTHON_INTERPRETER=$folder/$1/bin/python \
        exec "$folder/$1/bin/ansible-playbook" -i localhost, play.yml -e "log_file=$log_file" >"$folder/log" 2>&1) &
    pid=$!
    for _ in {1..600}; do
        [ -s "$log_file" ] && break
        sleep 0.1
    done
    kill "-$2" "$pid"
    wait "$pid" 2>/dev/null || true
    # Until nothing is added for longer than a round takes on a busy machine.
    while [ -n "$(find "$log_file" -newermt '-10 seconds')" ]; do sleep 1; done
    tail -n 1 "$log_file"
}

# try NAME: the number of the last round, of 0 to 7.
try() {
    expect "the last round after SIGKILL" 7 "$(rounds "$1" KILL)"
    case $(rounds "$1" TERM) in
        7 | next) expect "the last round after SIGTERM" "an earlier one" "the last one, or later" ;;
        *) expect "the last round after SIGTERM" "an earlier one" "an earlier one" ;;
    esac
}

install oldest ansible-core==2.19.14
try oldest
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
