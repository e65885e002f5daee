#!/usr/bin/env bash
# Ansible's `meta: end_host`, `end_batch` and `end_play` drop the handlers that were notified, and the run succeeds.
#
# Guess:    `end_host` ends a play for one host "without failing it": what it was promised until then, the restart of a service whose
#           configuration was changed, is done at the end of the play as for every host.
# Truth:    its handlers never run, and those of all hosts after `end_play` or `end_batch` neither. The recap says changed=1, the exit
#           code is 0. In the next run nothing is changed, so nothing is notified: the restart is lost for good. A host that ends
#           within a role by `end_role`, or after `flush_handlers`, has them.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    "skip the rest for devices without a model" is a usual line. These devices have the new certificate or configuration on the
#           disk and the old one in memory, until a power cut. `meta: flush_handlers` belongs before each of the three.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

mkdir -p "$folder/roles/server/tasks"
cat >"$folder/roles/server/tasks/main.yml" <<'EOF'
- ansible.builtin.command: /bin/true
  notify: restart
- ansible.builtin.meta: end_role
  when: end == 'end_role' and inventory_hostname == 'ends'
EOF
cat >"$folder/play.yml" <<'EOF'
- hosts: all
  gather_facts: false
  handlers:
    - name: restart
      ansible.builtin.shell: echo "{{ inventory_hostname }}" >>{{ out }}
  tasks:
    - ansible.builtin.import_role:
        name: server
    - ansible.builtin.meta: flush_handlers
      when: flush
    - ansible.builtin.meta: end_host
      when: end == 'end_host' and inventory_hostname == 'ends'
    - ansible.builtin.meta: end_batch
      when: end == 'end_batch' and inventory_hostname == 'ends'
    - ansible.builtin.meta: end_play
      when: end == 'end_play' and inventory_hostname == 'ends'
EOF
printf '%s\n' ends goes-on '[all:vars]' ansible_connection=local >"$folder/hosts"

# restarted NAME END FLUSH: which hosts' handlers ran, and the exit code
restarted() {
    rm -f "$folder/out"
    playbook "$1" -i hosts play.yml -e "{end: $2, flush: $3, out: $folder/out}"
    printf '%s, exit code %s\n' "$(sort "$folder/out" 2>/dev/null | xargs)" "$code"
}
try() {
    expect "no end" "ends goes-on, exit code 0" "$(restarted "$1" none false)"
    expect "end_role" "ends goes-on, exit code 0" "$(restarted "$1" end_role false)"
    expect "end_host" "goes-on, exit code 0" "$(restarted "$1" end_host false)"
    expect "end_batch" ", exit code 0" "$(restarted "$1" end_batch false)"
    expect "end_play" ", exit code 0" "$(restarted "$1" end_play false)"
    expect "end_host after flush_handlers" "ends goes-on, exit code 0" "$(restarted "$1" end_host true)"
}

install older ansible-core==2.19.14
try older
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
