# shellcheck shell=bash
# What every finding needs: a temporary folder, pinned packages in it, and statements that are checked. To be sourced by one.

set -euo pipefail

# Nothing of the caller's may change what a library does.
unset PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE PYTHONOPTIMIZE PYTHONWARNINGS
while read -r variable; do unset "$variable"; done < <(compgen -e ANSIBLE_ || true)

folder=$(mktemp -d)
started=() # process ids to end
changed=0

end() {
    local code=$?
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$folder"
    exit "$code"
}
trap end EXIT

# cannot REASON: this machine lacks something; that says nothing about the finding.
cannot() {
    printf 'cannot run: %s\n' "$*" >&2
    exit 2
}

# expect WHAT EXPECTED ACTUAL: print what was seen, and remember whether it is what was seen before.
expect() {
    if [ "$2" = "$3" ]; then
        printf '  as seen before  %s: %s\n' "$1" "$3"
    else
        printf '  CHANGED         %s: %s (seen before: %s)\n' "$1" "$3" "$2"
        changed=1
    fi
}

# finish: the last line of a finding.
finish() {
    [ "$changed" = 0 ] || printf 'the behaviour changed: read the finding again\n' >&2
    exit "$changed"
}

# python_from MINIMUM: the path of a Python of at least that version (3.12), of those in PATH and of pyenv.
python_from() {
    local candidate
    for candidate in python3 python3.{11..15} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3; do
        if "$candidate" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$1'.split('.'))))" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    cannot "no Python from $1 on: install one, or name it in PATH"
}

# install NAME [--python VERSION] PACKAGE==VERSION…: a virtual environment $folder/NAME with these packages; print them.
install() {
    local name=$1 minimum=3.11 python
    shift
    if [ "$1" = --python ]; then
        minimum=$2
        shift 2
    fi
    python=$(python_from "$minimum")
    "$python" -m venv "$folder/$name"
    "$folder/$name/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "$@" 2>"$folder/pip.log" ||
        cannot "pip install $*: $(tail -n 1 "$folder/pip.log")"
    printf '%s, Python %s\n' "$*" "$("$python" -c 'import platform; print(platform.python_version(), platform.machine())')"
}

# playbook NAME ARGUMENT…: ansible-playbook of the environment NAME, in $folder; its output is in $folder/log, its exit code in $code.
playbook() {
    local name=$1
    shift
    code=0
    (cd "$folder" && ANSIBLE_HOME=$folder/ansible ANSIBLE_PYTHON_INTERPRETER=$folder/$name/bin/python \
        ANSIBLE_DEPRECATION_WARNINGS=false ANSIBLE_LOCALHOST_WARNING=false \
        "$folder/$name/bin/ansible-playbook" "$@" >"$folder/log" 2>&1) || code=$?
    export code
}

# unpack PACKAGE[=VERSION]…: Debian packages of this machine's release, unpacked to $folder/debian, not installed; print them.
unpack() {
    local package
    mkdir -p "$folder/debian"
    for package in "$@"; do
        (cd "$folder" && apt-get download --quiet=2 "$package" 2>"$folder/apt.log") ||
            cannot "apt-get download $package: $(tail -n 1 "$folder/apt.log")"
    done
    for package in "$folder"/*.deb; do dpkg -x "$package" "$folder/debian"; done
    printf 'Debian: %s\n' "$*"
    LD_LIBRARY_PATH=$(find "$folder/debian" -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
    export LD_LIBRARY_PATH
}

# unused_port: a TCP port on 127.0.0.1 where nobody listens.
unused_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# listens PORT: wait until somebody listens there.
listens() {
    for _ in {1..100}; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
        sleep 0.1
    done
    cannot "nobody listens on 127.0.0.1:$1"
}

# python_finding NAME: run the program on standard input in the environment NAME; it says `from finding import expect`.
python_finding() {
    cat >"$folder/finding.py" <<'EOF'
def expect(what, expected, actual):
    """Print what was seen; end with 1, at the end, if it is not what was seen before."""
    global changed
    same = expected == actual
    changed = changed or not same
    print(f"  as seen before  {what}: {actual}" if same else f"  CHANGED         {what}: {actual} (seen before: {expected})")


def _end():
    if changed:
        import os, sys

        sys.stdout.flush()
        os._exit(1)


changed = False
import atexit

atexit.register(_end)
EOF
    local name=$1 code=0
    shift
    cat >"$folder/program.py"
    (cd "$folder" && PYTHONPATH=$folder "$folder/$name/bin/python" program.py "$@") || code=$?
    case $code in
        0) ;;
        1) changed=1 ;;
        *) exit "$code" ;;
    esac
}
