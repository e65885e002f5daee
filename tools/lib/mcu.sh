# shellcheck shell=bash
# The microcontrollers of examples/mcu: what building and running them needs, in .cache/mcu. To be sourced with report.sh and
# pinned_environment.sh.

mcu=$PWD/.cache/mcu
bearssl_digest=102a625bd8f6155260867a50c508df8d8c3f796985dd744df1a68e5cd1a79004 # of BearSSL 0.6, as Debian has it

# mcu_packages: print the Debian packages that this needs beside those of `make setup`.
mcu_packages() { echo gcc gcc-arm-none-eabi libc6-dev libnewlib-arm-none-eabi make qemu-system-arm; }

# bearssl_sources: have BearSSL's sources in .cache/mcu/bearssl. Debian's source packages are fetched with lists of their own:
# what the machine's apt knows is left as it is.
bearssl_sources() {
    local apt=$mcu/apt options archive
    if [ "$(cat "$mcu/bearssl/.stamp" 2>/dev/null)" = "$bearssl_digest" ]; then
        say "there"
        return
    fi
    rm -rf "$apt" "$mcu/bearssl"
    mkdir -p "$apt/lists/partial" "$mcu/bearssl"
    # shellcheck disable=SC2016 # apt fills in the names
    apt-get indextargets --format '$(ORIGIN) deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -nE 's/^(Debian|Ubuntu) (.* (main|universe))$/\2/p' | sort -u >"$apt/sources.list"
    options=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists"
        -o Acquire::Retries=5 -o APT::Sandbox::User=root)
    watched "$logs/mcu-apt.log" apt-get "${options[@]}" update
    (cd "$apt" && apt-get "${options[@]}" --quiet=2 source --download-only --tar-only bearssl)
    archive=$(echo "$apt"/bearssl_*.orig.tar.xz)
    if ! sha256sum --check --status <<<"$bearssl_digest  $archive"; then
        die "BearSSL's sources are not those that were looked at" "expected SHA-256 $bearssl_digest, found:" \
            "$(sha256sum "$archive")"
    fi
    tar --extract --file="$archive" --directory="$mcu/bearssl" --strip-components=1
    rm -rf "$apt"
    echo "$bearssl_digest" >"$mcu/bearssl/.stamp"
}

# mcu_keys: have the keys of this clone: the one that its microcontrollers know, and a wrong one.
mcu_keys() {
    local name
    mkdir -p "$mcu/keys"
    for name in right wrong; do
        [ -s "$mcu/keys/$name.pem" ] || "$mcu/venv/bin/imgtool" keygen --key "$mcu/keys/$name.pem" --type ecdsa-p256
    done
    [ -s "$mcu/keys/right.c" ] ||
        "$mcu/venv/bin/imgtool" getpub --key "$mcu/keys/right.pem" --encoding lang-c >"$mcu/keys/right.c"
}

# build_mcu [TARGET…]: build bootloader, firmware and the programs of this machine into .cache/mcu/build.
build_mcu() {
    watched "$logs/mcu-build.log" make --jobs=2 --directory=examples/mcu BEARSSL="$mcu/bearssl" KEY="$mcu/keys/right.c" \
        BUILD="$mcu/build" "$@"
}

# make_mcu [TARGET…]: have all of it.
make_mcu() {
    make_environment "$mcu/venv" tests/mcu/requirements.txt
    make_environment "$mcu/forest" examples/mcu/forest/requirements.txt
    bearssl_sources
    mcu_keys
    build_mcu "$@"
    if [ ! -s "$mcu/models/1.2.0.npz" ] || [ examples/mcu/digits_model.py -nt "$mcu/models/1.2.0.npz" ]; then
        "$mcu/venv/bin/python" examples/mcu/digits_model.py "$mcu/models"
    fi
}
