# shellcheck shell=bash
# The Pythons of this machine: on the PATH, made by pyenv, or got by uv. To be sourced.

# python_of VERSION: print the path of a Python of that version (3.9), or fail.
python_of() {
    local candidate
    for candidate in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/"python$1" \
        "$PWD/.cache/pythons/cpython-$1"*/bin/"python$1"; do
        # A shim of pyenv's may stand for nothing, and a device needs the modules of a whole Python.
        if [ -x "$candidate" ] && "$candidate" -c 'import ctypes, ensurepip, sqlite3, ssl' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# newest_python OLDEST: print the path of the newest Python from OLDEST (3.12) on, or fail and say so.
newest_python() {
    local minor
    for minor in 14 13 12 11 10; do
        if [ "$minor" -lt "${1#3.}" ]; then break; fi
        if python_of "3.$minor"; then return; fi
    done
    echo "expected Python $1 or later on the PATH or in pyenv; found none" >&2
    return 1
}

# get_python VERSION UV: have a Python of that version, which UV downloads if this machine has none, or fail.
get_python() {
    if python_of "$1" >/dev/null; then return; fi
    UV_PYTHON_INSTALL_DIR=$PWD/.cache/pythons timeout 300 "$2" python install --no-config --no-bin --quiet "$1"
}
