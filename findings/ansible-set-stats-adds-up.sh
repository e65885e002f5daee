#!/usr/bin/env bash
# Ansible's `set_stats` adds what hosts set up, texts and booleans too.
#
# Guess:    three hosts that set `failed: true` and `version: "1.2.0"` leave `failed: true` and `version: "1.2.0"`.
# Truth:    with the default (`aggregate: true`, `per_host: false`) the values are summed by Python's `+`: `failed` is 3 and
#           `version` is "1.2.01.2.01.2.0", without a warning. Only dictionaries are merged.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    AWX gives these values to the next step of a workflow. It works with one device on the desk; with three, the next
#           step rolls out a version that does not exist, or compares `failed == true` with 3. Use `run_once: true`, or
#           `aggregate: false`.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

cat >"$folder/play.yml" <<'EOF'
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.set_stats:
        data: {failed: true, version: "1.2.0", waves: [1]}
EOF

# stats NAME HOSTS: the closing statistics of a run with these hosts, without spaces.
stats() {
    ANSIBLE_SHOW_CUSTOM_STATS=true playbook "$1" -i "$2" play.yml
    sed -n 's/^\tRUN: //p' "$folder/log" | tr -d ' '
}

# try NAME
try() {
    expect "one host" '{"failed":true,"version":"1.2.0","waves":[1]}' "$(stats "$1" cam1,)"
    expect "three hosts" '{"failed":3,"version":"1.2.01.2.01.2.0","waves":[1,1,1]}' "$(stats "$1" cam1,cam2,cam3)"
}

install oldest ansible-core==2.19.14
try oldest
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
