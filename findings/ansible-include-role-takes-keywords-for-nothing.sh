#!/usr/bin/env bash
# Ansible's `include_role` takes `no_log`, `timeout` and `ignore_errors`, and applies them to none of the role's tasks.
#
# Guess:    a keyword that does not hold for the tasks of an included role is refused, as `become`, `throttle`, `check_mode` and
#           `environment` are ("not a valid attribute for a IncludeRole"); one that is taken holds.
# Truth:    these three are taken, and hold for the moment of including only: the role prints what `no_log` was to hide, works beyond the
#           `timeout`, and its failure is fatal. The same three words on `import_role`, or within `apply:`, hold for each task.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    changing `import_role` to `include_role`, because a role is to depend on a variable, is a change that every review passes; from
#           then on the tokens of devices stand in AWX's output. Put the keywords into `apply:`, or on the tasks themselves.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

mkdir -p "$folder/roles/enrol/tasks"
cat >"$folder/roles/enrol/tasks/main.yml" <<'EOF'
- ansible.builtin.debug:
    msg: "{{ 'tok' ~ 'en-of-the-device' }}"
- ansible.builtin.shell: sleep 14; echo 1 >>{{ out }}.slept
- ansible.builtin.command: /bin/false
- ansible.builtin.command: touch {{ out }}.went-on
EOF
cat >"$folder/include.yml" <<'EOF'
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: enrol
      no_log: true
      timeout: 6
      ignore_errors: true
EOF
sed 's/include_role/import_role/' "$folder/include.yml" >"$folder/import.yml"
cat >"$folder/apply.yml" <<'EOF'
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: enrol
        apply:
          no_log: true
          timeout: 6
          ignore_errors: true
EOF
sed -e 's/no_log: true/become: true/' -e '/timeout/d' -e '/ignore_errors/d' "$folder/include.yml" >"$folder/refused.yml"

# seen NAME PLAY: what the keywords did
seen() {
    rm -f "$folder"/out.*
    playbook "$1" -i localhost, -c local "$2.yml" -e "out=$folder/out"
    printf '%s, %s, %s\n' "$(if grep -q token-of-the-device "$folder/log"; then echo printed; else echo hidden; fi)" \
        "$(if grep -q 'Timed out' "$folder/log"; then echo 'timed out'; else echo 'no timeout'; fi)" \
        "$(if [ -e "$folder/out.went-on" ]; then echo 'went on'; else echo "failed with $code"; fi)"
}
try() {
    expect "import_role" "hidden, timed out, went on" "$(seen "$1" import)"
    expect "include_role with apply" "hidden, timed out, went on" "$(seen "$1" apply)"
    expect "include_role" "printed, no timeout, failed with 2" "$(seen "$1" include)"
    playbook "$1" -i localhost, -c local refused.yml
    expect "include_role with become" "'become' is not a valid attribute for a IncludeRole" \
        "$(grep -o "'become' is not a valid attribute for a IncludeRole" "$folder/log" | head -n 1)"
}

install older ansible-core==2.19.14
try older
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
