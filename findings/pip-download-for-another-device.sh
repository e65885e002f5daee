#!/usr/bin/env bash
# pip downloads wheels for another device by the markers of this machine, and misses those that fit.
#
# Guess:    `pip download --platform manylinux_2_28_aarch64 --python-version 3.8 --only-binary :all:` collects what that device
#           needs: every dependency that its Python needs, and any wheel that its glibc can load.
# Truth:    dependencies with a marker (`python_version < "3.9"`) are judged by the Python that runs pip, and are silently left out;
#           the wheels arrive, the install on the device fails or, with --no-deps, the import. And a platform means itself only: a
#           wheel for glibc 2.17 is "not found" for manylinux_2_28, though such a device runs it; each older tag must be named.
# Versions: pip 26.2; jsonschema 4.17.3 and MarkupSafe 3.0.2 as examples.
# Fleet:    a controller that prepares wheels for devices without a network prepares an incomplete set, and finds out on the
#           first device. Resolve on the device's own Python, or prove the set with `pip install --no-index` there.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here --python 3.9 pip==26.2

# fetched REQUIREMENT OPTION…: the names of the wheels that come for an aarch64 device
fetched() {
    local requirement=$1
    shift
    rm -rf "$folder/wheels" && mkdir "$folder/wheels"
    "$folder/here/bin/pip" download --quiet --dest "$folder/wheels" --only-binary :all: "$@" "$requirement" >"$folder/log" 2>&1 || true
    find "$folder/wheels" -name '*.whl' -printf '%f\n' | sed 's/-.*//' | tr '[:upper:]' '[:lower:]' | sort | paste -sd ' '
}

needed() { fetched jsonschema==4.17.3 --python-version "$1" --platform manylinux2014_aarch64; }
expect "jsonschema for Python 3.8, which needs importlib_resources and pkgutil_resolve_name too" \
    "attrs jsonschema pyrsistent" "$(needed 3.8)"
expect "MarkupSafe's wheel for glibc 2.17, asked for by its own tag" markupsafe \
    "$(fetched markupsafe==3.0.2 --python-version 3.11 --platform manylinux_2_17_aarch64)"
expect "the same wheel, asked for by a newer glibc's tag" "" \
    "$(fetched markupsafe==3.0.2 --python-version 3.11 --platform manylinux_2_28_aarch64)"
finish
