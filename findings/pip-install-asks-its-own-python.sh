#!/usr/bin/env bash
# pip installs packages for another Python, and refuses them because its own is too old for them.
#
# Guess:    `pip install --target DIRECTORY --python-version 3.13` makes what a device with Python 3.13 needs, and holds
#           `Requires-Python` of each package against 3.13, as `pip download` with the same options does.
# Truth:    up to pip 24.1 it chooses the file for 3.13, and then holds what the package requires against the Python that runs pip. A
#           package that dropped that Python is "not in '>=3.12'", with hashes and --no-deps as well. pip 24.2 mends it. Before,
#           `--ignore-requires-python` is the way round, and right where a lock was made for the other Python.
# Versions: pip 23.0.1 (Debian 12's, and of each of its virtual environments), 24.1, 24.2; numpy 2.5.1, which asks for Python 3.12.
# Fleet:    a controller on Debian 12 prepares its Debian 13 devices for months, until one of the packages drops Python 3.11: from
#           then on no new device can be provisioned, though nothing changed on the devices and each lock is right.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

older() {
    local candidate
    for candidate in python3.11 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11*/bin/python3; do
        if "$candidate" -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    cannot "no Python 3.11"
}

# With a Python 3.11, for which the package is too new.
"$(older)" -m venv "$folder/here"

# outcome COMMAND OPTION…: what pip says of numpy for a device with Python 3.13
outcome() {
    rm -rf "$folder/made"
    if "$folder/here/bin/pip" "$@" --quiet --no-deps --only-binary :all: --python-version 3.13 \
        --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 numpy==2.5.1 >"$folder/log" 2>&1; then
        echo "made"
    else
        sed -n "s/.*Package 'numpy' requires a different Python: 3\.11\.[0-9]* \(.*\)/refused: \1/p" "$folder/log"
    fi
}

# with VERSION: have that pip
with() {
    "$folder/here/bin/pip" install --quiet --disable-pip-version-check "pip==$1" 2>"$folder/pip.log" ||
        cannot "pip install pip==$1: $(tail -n 1 "$folder/pip.log")"
}

for version in 23.0.1 24.1; do
    with "$version"
    expect "pip $version download" "made" "$(outcome download --dest "$folder/made")"
    expect "pip $version install" "refused: not in '>=3.12'" "$(outcome install --target "$folder/made")"
    expect "pip $version install --ignore-requires-python" "made" "$(outcome install --target "$folder/made" --ignore-requires-python)"
done
with 24.2
expect "pip 24.2 install" "made" "$(outcome install --target "$folder/made")"
finish
