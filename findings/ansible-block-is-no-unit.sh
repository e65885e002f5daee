#!/usr/bin/env bash
# Ansible's `throttle: 1` on a block takes all devices out of service at once, and its `when:` is asked again in the middle.
#
# Guess:    a block is a unit: `throttle: 1` lets one host through it at a time (drain, update, take back), and `when:` decides once, at
#           the beginning, whether a host goes through it; what was begun is ended, by `always:` at least.
# Truth:    each task has the keyword for itself. All hosts are drained, one after the other, before the first is updated. A `when:` that is
#           made false by what the block does (the version that was installed) skips the rest, and `always:` as well, with exit code
#           0. `serial: 1` is one host at a time.
# Versions: ansible-core 2.19.14 and, where a Python 3.12 is, 2.21.5.
# Fleet:    the word that was to keep three of four devices in service takes all four away, and the device that got its new version is
#           neither restarted nor given back to its load balancer. Use `serial`, and ask a variable that the block does not change.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

cat >"$folder/update.yml" <<'EOF'
- hosts: all
  gather_facts: false
  serial: "{{ batch }}"
  tasks:
    - throttle: 1
      block:
        - ansible.builtin.raw: echo {{ inventory_hostname }}=drained >>{{ out }}
        - ansible.builtin.raw: echo {{ inventory_hostname }}=updated >>{{ out }}
        - ansible.builtin.raw: echo {{ inventory_hostname }}=back >>{{ out }}
EOF
cat >"$folder/when.yml" <<'EOF'
- hosts: one
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        installed: '1'
        before: '1'
    - when: lookup('ansible.builtin.vars', asked) == '1'
      block:
        - ansible.builtin.raw: echo drained >>{{ out }}
        - ansible.builtin.set_fact:
            installed: '2'
        - ansible.builtin.raw: echo restarted >>{{ out }}
      always:
        - ansible.builtin.raw: echo back >>{{ out }}
EOF
printf '%s\n' one two three '[all:vars]' ansible_connection=local >"$folder/hosts"

# order ARGUMENT…: what was done, in its order, and the exit code
order() {
    rm -f "$folder/out"
    playbook "$1" -i hosts -e "out=$folder/out" "${@:2}"
    printf '%s, exit code %s\n' "$(xargs <"$folder/out")" "$code"
}
# most NAME BATCH: how many hosts are drained at once, at most
most() {
    order "$1" update.yml -e "batch=$2" >/dev/null
    awk -F= '/drained/ {away++} /back/ {away--} away > most {most = away} END {print most, "of", NR / 3}' "$folder/out"
}
try() {
    expect "throttle: 1 on the block, drained at once" "3 of 3" "$(most "$1" 100%)"
    expect "serial: 1, drained at once" "1 of 3" "$(most "$1" 1)"
    expect "when: asks what the block does not change" "drained restarted back, exit code 0" "$(order "$1" when.yml -e asked=before)"
    expect "when: asks what the block changes" "drained, exit code 0" "$(order "$1" when.yml -e asked=installed)"
}

install older ansible-core==2.19.14
try older
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
