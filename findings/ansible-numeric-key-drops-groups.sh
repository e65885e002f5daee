#!/usr/bin/env bash
# A number in one host's variable ends a `constructed` inventory half-way: the hosts after it are in no group, and the run succeeds.
#
# Guess:    `keyed_groups` with `key: rack` makes the group rack_7 of a host with `rack: 7`; where it could not, the run would fail.
# Truth:    a number is refused ("Invalid group name format"), and the source is left there, with a warning: the hosts before it have
#           their groups, it has those of the keys before, and no host after it is in any; the exit code is 0. As a text it works.
# Versions: ansible-core 2.19.14.
# Fleet:    one device whose rack, hall or line is written as a number, and `hosts: cameras` leaves out those behind it. Write
#           `key: rack | string`, and compare the number of devices that a rollout plans with what you have.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here ansible-core==2.19.14
mkdir "$folder/inventory"
cat >"$folder/inventory/hosts.yml" <<'EOF'
all:
  hosts:
    edge-1: {rack: "6", kind: camera}
    edge-2: {rack: 7, kind: camera}
    edge-3: {rack: "8", kind: camera}
EOF
cat >"$folder/play.yml" <<'EOF'
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.copy:
        content: "cameras: {{ groups.cameras | sort | join(' ') }}; racks: {{ groups | select('match', 'rack') | sort | join(' ') }}"
        dest: "{{ out }}"
      run_once: true
EOF

# try KEY NAME
try() {
    cat >"$folder/inventory/zz-constructed.yml" <<EOF
plugin: ansible.builtin.constructed
groups: {cameras: kind == 'camera'}
keyed_groups: [{prefix: kind, key: kind}, {prefix: rack, key: $1}]
EOF
    playbook here -i inventory play.yml -e "out=$folder/$2"
    groups=$(cat "$folder/$2")
}

try rack number
expect "exit code with a number as key" 0 "$code"
expect "groups with a number as key" "cameras: edge-1 edge-2; racks: rack_6" "$groups"
try "rack | string" text
expect "groups with texts as keys" "cameras: edge-1 edge-2 edge-3; racks: rack_6 rack_7 rack_8" "$groups"
finish
