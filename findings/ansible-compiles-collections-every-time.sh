#!/usr/bin/env bash
# Ansible compiles a collection's Python files with every start; nothing is cached.
#
# Guess:    plugins and what they import are modules of Python: compiled once, and read from `__pycache__` from then on.
# Truth:    the collection loader compiles the source text each time and writes no bytecode; `__pycache__` made beforehand by
#           `compileall` is not read either, while `ansible` itself and whatever is a package of the environment are.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    a collection whose rules are many lines pays for them at each start of each play, on the controller: a tenth of a second
#           for 10,000 lines, before the first device is asked. Import what one plugin needs only there.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

rules=$folder/collections/ansible_collections/some/fleet/plugins
mkdir -p "$rules/module_utils" "$rules/filter"
cat >"$rules/filter/bytecode.py" <<'EOF'
import sys

from ansible.parsing import yaml
from ansible_collections.some.fleet.plugins.module_utils import rules


def kept(module):
    """Whether a module's bytecode is kept in a file that is there."""
    import os

    return bool(getattr(module, "__cached__", None)) and os.path.exists(module.__cached__)


class FilterModule:
    def filters(self):
        return {"bytecode": lambda _value: f"collection {rules.COMPILED}, ansible {kept(yaml)}"}
EOF
cat >"$rules/module_utils/rules.py" <<'EOF'
import os

COMPILED = os.path.exists(os.path.join(os.path.dirname(__file__), "__pycache__"))
EOF
cat >"$folder/play.yml" <<'EOF'
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: "seen: {{ 1 | some.fleet.bytecode }}"}
EOF

# try NAME: what is kept of the first start when the second one looks, and whether bytecode of others is read.
try() {
    export ANSIBLE_COLLECTIONS_PATH=$folder/collections
    find "$rules" -name __pycache__ -prune -exec rm -rf {} +
    playbook "$1" -i localhost, play.yml
    playbook "$1" -i localhost, play.yml
    expect "bytecode that is kept, at the second start" "collection False, ansible True" \
        "$(sed -n 's/.*seen: \([^"]*\)".*/\1/p' "$folder/log")"
    # Bytecode that says something else, with the time and size of its source: whoever reads it is told from whoever compiles.
    "$folder/$1/bin/python" - "$rules/module_utils/rules.py" <<'EOF'
import importlib.util, os, sys
from importlib._bootstrap_external import _code_to_timestamp_pyc

path = sys.argv[1]
about = os.stat(path)
cache = importlib.util.cache_from_source(path)
os.makedirs(os.path.dirname(cache), exist_ok=True)
with open(cache, "wb") as file:
    file.write(_code_to_timestamp_pyc(compile('COMPILED = "from bytecode"', path, "exec"), int(about.st_mtime), about.st_size))
EOF
    playbook "$1" -i localhost, play.yml
    expect "with bytecode that was made beforehand" "collection True, ansible True" \
        "$(sed -n 's/.*seen: \([^"]*\)".*/\1/p' "$folder/log")"
}

install oldest ansible-core==2.19.14
try oldest
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
