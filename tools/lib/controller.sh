# shellcheck shell=bash
# What Ansible and the tests use on this machine: the virtual environment, the SSH key. To be sourced.

# make_venv: install the locked requirements; nothing to do while the stamp holds the lock file's digest.
make_venv() {
    local stamp=.venv/.requirements.sha256 digest
    digest=$(sha256sum requirements-dev.txt | cut -d ' ' -f 1)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$digest" ] && .venv/bin/python -c '' 2>/dev/null; then
        say "up to date"
        return
    fi
    # What a link leads to belongs to another clone, and would be emptied.
    [ ! -L .venv ] || die ".venv is a link to $(readlink .venv), whose packages are not those of requirements-dev.txt" \
        "remove the link, or bring what it leads to up to date there"
    say "about 130 packages, 600 MB on disk: about a minute (log: $logs/venv.log)"
    rm -f "$stamp"
    "$python" -m venv --clear .venv
    # Compiling all of Ansible's collections takes longer than the rest, and few of them are ever used.
    watched "$logs/venv.log" .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off --retries 10 \
        --no-compile --require-hashes --requirement requirements-dev.txt
    echo "$digest" >"$stamp"
}

# make_ssh_key: the key pair with which the controller logs in to the emulated devices.
make_ssh_key() {
    local key=.ansible/fleet/id_ed25519
    if [ ! -s "$key.pub" ]; then
        install -d -m 0700 .ansible/fleet
        rm -f "$key"
        ssh-keygen -q -t ed25519 -N '' -C edgeml-fleet -f "$key"
    fi
    say "$(ssh-keygen -l -f "$key.pub")"
}
