#!/usr/bin/env bash
# A play whose files are replaced while it runs goes on with half of the old ones and half of the new ones.
#
# Guess:    Ansible reads a playbook when it starts, so that a run is of one version; or, whoever knows better, it reads each thing when it
#           is needed, so that the next batch is of the new version.
# Truth:    neither. In the second batch the tasks, imported and included ones, the variables of groups and the modules that were sent
#           before are the old ones; templates, `vars_files` and filter plugins are the new ones: a plugin that nobody imported before
#           is loaded in each worker. So new templates get old variables, and new filters the results of old modules.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    a rollout with its soaks lasts for hours. A `git pull`, or a collection that is upgraded, in the project's folder meanwhile, and
#           the canary has proved what no other device gets. Run each rollout from a checkout of its own, as AWX does.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

# put VERSION: the files of a project, of that version
cat >"$folder/put" <<'EOF'
cd "$(dirname "$0")"
mkdir -p group_vars tasks templates library filter_plugins
echo "group_variable: $1" >group_vars/all.yml
echo "file_variable: $1" >variables.yml
echo "$1" >templates/template.j2
for kind in imported included; do echo "- ansible.builtin.raw: echo $kind=$1 >>{{ out }}" >tasks/$kind.yml; done
echo "class FilterModule:
    def filters(self):
        return {'version': lambda _: '$1'}" >filter_plugins/version.py
echo "from ansible.module_utils.basic import AnsibleModule
AnsibleModule({}).exit_json(version='$1')" >library/version.py
EOF
cat >"$folder/play.yml" <<'EOF'
- hosts: all
  gather_facts: false
  serial: 1
  vars_files: variables.yml
  tasks:
    - ansible.builtin.import_tasks: tasks/imported.yml
    - ansible.builtin.include_tasks: tasks/included.yml
    - version:
      register: module
    - ansible.builtin.raw: >-
        echo module={{ module.version }} group_vars={{ group_variable }} vars_files={{ file_variable }}
        filter={{ '' | version }} template={{ lookup('template', 'template.j2') | trim }} >>{{ out }}
    - ansible.builtin.raw: bash {{ playbook_dir }}/put new
EOF
printf '%s\n' canary other '[all:vars]' ansible_connection=local >"$folder/hosts"

try() {
    rm -f "$folder/out"
    bash "$folder/put" old
    playbook "$1" -i hosts play.yml -e "out=$folder/out"
    expect "exit code" 0 "$code"
    expect "the canary" "imported=old included=old module=old group_vars=old vars_files=old filter=old template=old" \
        "$(head -n 3 "$folder/out" | xargs)"
    expect "the batch after it" "imported=old included=old module=old group_vars=old vars_files=new filter=new template=new" \
        "$(tail -n 3 "$folder/out" | xargs)"
}

install older ansible-core==2.19.14
try older
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
