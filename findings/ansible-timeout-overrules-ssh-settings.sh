#!/usr/bin/env bash
# A `ConnectTimeout` in `ansible_ssh_common_args` or `ansible_ssh_extra_args` is never used, one in `ansible_ssh_args` is.
#
# Guess:    `-o ConnectTimeout=60` in `ansible_ssh_common_args` gives slow devices a minute to answer, as it does for `ssh` by hand.
#           What holds for one of the three variables holds for the others.
# Truth:    Ansible's connection puts `-o ConnectTimeout=` of its own option `timeout` (10 s) behind `ansible_ssh_args` and in front of
#           the two others, and of each setting OpenSSH keeps the first. So the same words count in one place and not in the next;
#           and in the place where they count they replace the options that keep connections open. `ansible_ssh_timeout` is the way.
# Versions: ansible-core 2.16.14, 2.19.14 and, where a Python 3.12 is, 2.21.5; OpenSSH 9.2 of Debian 12.
# Fleet:    devices behind slow links (a modem that dials up, a jump host that wakes the line) are *unreachable* after 10 s, whatever
#           the inventory's SSH arguments say, and a canary is taken for silent.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

command -v ssh >/dev/null || cannot "ssh: install openssh-client"

# What the connection plugin runs instead of ssh: it has the real ssh say which settings it would use.
cat >"$folder/ssh" <<'END'
#!/usr/bin/env bash
if [ "$1" != -V ]; then ssh -G "$@" | grep --ignore-case '^connecttimeout' >>"$(dirname "$0")/settings"; fi
exit 255
END
chmod +x "$folder/ssh"
cat >"$folder/play.yml" <<'END'
- hosts: device
  gather_facts: false
  tasks:
    - ansible.builtin.raw: "true"
END

# settings VARIABLE…: what ssh would have used, with these variables of the device
settings() {
    rm -f "$folder/settings"
    echo "device ansible_host=127.0.0.1 ansible_ssh_executable=$folder/ssh $*" >"$folder/hosts"
    playbook "$core" -i hosts play.yml
    sort -u "$folder/settings" 2>/dev/null || echo none
}

# try NAME: with the ansible-core of the environment NAME
try() {
    core=$1
    expect "ssh's setting, a minute in the common arguments" "connecttimeout 10" "$(settings "ansible_ssh_common_args='-o ConnectTimeout=60'")"
    expect "ssh's setting, a minute in the extra arguments" "connecttimeout 10" \
        "$(settings "ansible_ssh_extra_args='-o ConnectTimeout=60'")"
    expect "ssh's setting, a minute in ansible_ssh_args" "connecttimeout 60" "$(settings "ansible_ssh_args='-o ConnectTimeout=60'")"
    expect "ssh's setting, a minute as Ansible's own" "connecttimeout 60" "$(settings "ansible_ssh_timeout=60")"
}

install oldest ansible-core==2.16.14
try oldest
install older ansible-core==2.19.14
try older
install newest --python 3.12 ansible-core==2.21.5
try newest
finish
