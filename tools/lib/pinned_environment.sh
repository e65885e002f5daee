# shellcheck shell=bash
# For scripts that source it, with report.sh: environments of pinned packages, made once.

# make_environment DIRECTORY REQUIREMENTS: have a virtual environment with what the file pins
make_environment() {
    local venv=$1 requirements=$2 digest
    digest=$(sha256sum "$requirements")
    [ "$(cat "$venv/.stamp" 2>/dev/null)" != "$digest" ] || return 0
    say "$venv: the packages of $requirements"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    echo "$digest" >"$venv/.stamp"
}
