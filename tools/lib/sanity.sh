# shellcheck shell=bash
# The collection as it would be installed, and ansible-test on it. To be sourced.

# unpack_collection DIRECTORY: build the tarball there and unpack it; sets `content` to the collection's directory.
unpack_collection() {
    content=$1/ansible_collections/edgeml/fleet
    mkdir -p "$content"
    ansible-galaxy collection build --output-path "$1" >/dev/null
    tarball=$(echo "$1"/edgeml-fleet-*.tar.gz)
    tar --extract --gzip --file "$tarball" --directory "$content"
}

# sanity HOME PYTHON VERSION [OPTIONS]: run the sanity tests in the current directory, with the ansible-test of PYTHON's
# environment, on Python VERSION. ansible-test makes environments without pip and would download a script that brings it:
# Python brings one too.
sanity() {
    local home=$1 python=$2 version=$3 pip bin
    shift 3
    bin=$(dirname "$python")
    mkdir -p "$home/.ansible/test/cache"
    pip=$(PYTHONPATH=$("$python" -c 'import ansible_test; print(ansible_test.__path__[0])') "$python" -c '
import sys
from types import SimpleNamespace
from ansible_test._internal.python_requirements import get_venv_packages
print(get_venv_packages(SimpleNamespace(version=sys.argv[1]))["pip"].replace(".", "_"))' "$version")
    echo 'import ensurepip; ensurepip.bootstrap(upgrade=True)' >"$home/.ansible/test/cache/get_pip_$pip.py"
    HOME=$home PATH=$bin:$PATH "$bin/ansible-test" sanity --color no --requirements --python "$version" "$@"
}
