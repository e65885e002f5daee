#!/usr/bin/env bash
# Ansible's `always:` is left out for a device whose connection was lost, and for a good device whose task went to another one.
#
# Guess:    `always:` runs "no matter what", as a `finally` does: that is where the maintenance mode is ended and the lock is given back, by
#           a task that goes to the controller, so that it needs no device.
# Truth:    a host that is unreachable within the block has neither `rescue:` nor `always:`; nor has a host that is there, when one of
#           its tasks is delegated to something that is not (a proxy, a switch, a monitoring server). A failed host has both. With
#           `ignore_unreachable: true` on the block, `always:` is run.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    a device that loses its link in the middle of an update stays silenced in the monitoring, drained in the load balancer or
#           locked, for good: the device that most needs somebody's look. End such states by a limit of time, not by `always:`.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

cat >"$folder/play.yml" <<'EOF'
- hosts: all,!proxy
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.command: test {{ inventory_hostname }} != fails
        - ansible.builtin.ping:
          delegate_to: "{{ 'proxy' if inventory_hostname == 'delegates' else inventory_hostname }}"
      rescue:
        - ansible.builtin.shell: echo "{{ inventory_hostname }}" >>{{ out }}.rescue
          delegate_to: localhost
      always:
        - ansible.builtin.shell: echo "{{ inventory_hostname }}" >>{{ out }}.always
          delegate_to: localhost
      ignore_unreachable: "{{ ignored }}"
EOF
away="ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=$(unused_port)"
printf '%s\n' good fails delegates "gone $away" "proxy $away" '[all:vars]' ansible_connection=local >"$folder/hosts"

# try NAME: who has what, by that environment's ansible-core
try() {
    local ignored
    for ignored in false true; do
        playbook "$1" -i hosts play.yml -e "{ignored: $ignored, out: $folder/$1.$ignored}"
    done
    expect "rescue" "fails" "$(sort "$folder/$1.false.rescue" | xargs)"
    expect "always" "fails good" "$(sort "$folder/$1.false.always" | xargs)"
    expect "always, with ignore_unreachable" "delegates fails gone good" "$(sort "$folder/$1.true.always" | xargs)"
}

install older ansible-core==2.19.14
try older
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
