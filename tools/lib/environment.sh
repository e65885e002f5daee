# shellcheck shell=bash
# Where things are, for all tools. To be sourced from the clone's root; it works in any directory.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/edgeml-fleet # outlives clones: the devices' root file system
work=/var/tmp/edgeml-fleet                         # where that is unpacked while it is built
logs=$PWD/.cache/logs
dockerd_pid=$PWD/.cache/dockerd.pid # of the Docker Engine that the set-up of this clone started

export ANSIBLE_CONFIG=$PWD/ansible.cfg
export ANSIBLE_HOME=$PWD/.ansible
export PATH=$PWD/.venv/bin:$PATH:/usr/sbin:/sbin
