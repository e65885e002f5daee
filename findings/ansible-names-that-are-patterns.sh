#!/usr/bin/env bash
# A list of Ansible's own host names in `hosts:` is not that list of hosts.
#
# Guess:    `hosts: "{{ groups.fleet }}"` plays the hosts of the group `fleet`, as `hosts: fleet` does; a name that Ansible took
#           from a dynamic inventory, plays and delegates to, is a name everywhere.
# Truth:    what stands in `hosts:` is parsed as patterns, each item of a list too: a name with a comma or a colon is taken apart
#           and left out, and the run ends with exit code 0 and a warning. As a group, or in `delegate_to`, the same host is found.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    inventories of asset systems hold "Hall 3, gateway" and "rack1:cam2". A rollout that computes its waves as lists of
#           names skips these devices, and passes. `add_host` into a group made for the wave plays what was planned.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

cat >"$folder/inventory.json" <<'EOF'
{"_meta": {"hostvars": {}},
 "fleet": {"hosts": ["rack1:cam2", "Hall 3, gateway", "cam5"], "vars": {"ansible_connection": "local"}}}
EOF
printf '#!/bin/sh\ncat "%s/inventory.json"\n' "$folder" >"$folder/inventory"
chmod +x "$folder/inventory"
for hosts in 'fleet' '{{ groups.fleet }}' "{{ groups.fleet[:2] }}"; do
    cat <<EOF
- hosts: "$hosts"
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: "{{ ansible_play_hosts_all | sort | join(' and ') }}"}
      delegate_to: "{{ groups.fleet[0] }}"
      run_once: true
EOF
done >"$folder/play.yml"

# try NAME
try() {
    playbook "$1" -i inventory play.yml
    expect "as a group" "cam5 and Hall 3, gateway and rack1:cam2" "$(sed -n 's/.*"msg": "\(.*\)"/\1/p' "$folder/log" | sed -n 1p)"
    expect "as a list of the same names" "cam5" "$(sed -n 's/.*"msg": "\(.*\)"/\1/p' "$folder/log" | sed -n 2p)"
    expect "as a list of the first two" "skipping: no hosts matched" "$(grep '^skipping' "$folder/log")"
    expect "exit code" 0 "$code"
}

install oldest ansible-core==2.19.14
try oldest
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
