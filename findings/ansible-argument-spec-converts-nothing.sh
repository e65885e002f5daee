#!/usr/bin/env bash
# A role's argument spec converts nothing: it checks a copy, and the role works with what came.
#
# Guess:    options of `type: int`, `bool`, `list`, `str` arrive in the role as such, as they do in a module with the same spec.
# Truth:    the spec converts a copy to see whether it could, and drops it. `-e port=8090` stays a text; `-e active=false` stays
#           the text "false"; `-e waves=abc` is accepted as a list and looped over by letters; the unquoted version 1.10 is
#           accepted as a text and stays the number 1.1.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    a configuration file gets `"port": "8090"` and the service does not start; a switch that was turned off is on; the
#           fleet gets version 1.1. Convert where a value is used, and refuse versions that are no text.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

mkdir -p "$folder/roles/service/"{tasks,meta}
cat >"$folder/roles/service/meta/argument_specs.yml" <<'EOF'
argument_specs:
  main:
    options:
      port: {type: int}
      active: {type: bool}
      waves: {type: list, elements: str}
      version: {type: str}
EOF
cat >"$folder/roles/service/tasks/main.yml" <<'EOF'
- ansible.builtin.copy:
    content: "{{ {'port': port, 'active': active, 'waves': waves | list, 'version': version} | to_json }}"
    dest: "{{ out }}"
EOF
cat >"$folder/play.yml" <<'EOF'
- hosts: localhost
  connection: local
  gather_facts: false
  roles: [{role: service, version: 1.10}]
EOF

# try NAME
try() {
    playbook "$1" -i localhost, play.yml -e "out=$folder/$1.out" -e port=8090 -e active=false -e waves=abc
    expect "exit code" 0 "$code"
    expect "what the role wrote" '{"port": "8090", "active": "false", "waves": ["a", "b", "c"], "version": 1.1}' "$(cat "$folder/$1.out")"
}

install oldest ansible-core==2.19.14
try oldest
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
