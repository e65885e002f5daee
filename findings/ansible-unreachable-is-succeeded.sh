#!/usr/bin/env bash
# To Ansible's tests, an unreachable host whose absence was ignored has succeeded.
#
# Guess:    with `ignore_unreachable: true` the registered result of a device that did not answer is `failed`, and `retries`
#           with `until: result is succeeded` ask it again.
# Truth:    the result is not `failed`, so it is `succeeded`; `until` is content with the first attempt, which is not even
#           counted. Only `result is unreachable` tells. With `ignore_unreachable` and a loop, core 2.16 leaves that key out of
#           the result and keeps it in each item.
# Versions: ansible-core 2.16.14, 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    `when: swap is succeeded` goes on with a device that was never asked, and a link that fails once is never tried again.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

cat >"$folder/play.yml" <<'EOF'
- hosts: gone
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
      register: asked
      ignore_unreachable: true
      until: asked is succeeded
      retries: 3
      delay: 0
    - ansible.builtin.ping:
      loop: [1, 2]
      register: looped
      ignore_unreachable: true
    - ansible.builtin.copy:
        dest: "{{ out }}"
        content: >-
          succeeded={{ asked is succeeded }} failed={{ asked is failed }} unreachable={{ asked is unreachable }}
          attempts={{ asked.attempts | default('none') }} loop={{ looped is unreachable }}
          item={{ looped.results[0] is unreachable }}
      delegate_to: localhost
EOF
cat >"$folder/hosts" <<EOF
gone ansible_host=127.0.0.1 ansible_port=$(unused_port)
localhost ansible_connection=local
EOF

# try NAME LOOP: LOOP: whether the result of the loop says that the host is unreachable
try() {
    playbook "$1" -i hosts play.yml -e "out=$folder/$1.out"
    expect "the results" "succeeded=True failed=False unreachable=True attempts=none loop=$2 item=True" "$(cat "$folder/$1.out")"
}

install oldest ansible-core==2.16.14
try oldest False
install older ansible-core==2.19.14
try older True
install newest --python 3.12 ansible-core==2.21.5
try newest True
finish
