# shellcheck shell=bash
# What this machine must be and have: the system, Python, Debian packages. To be sourced.

# find_python: print the first interpreter, outside our own .venv, that ansible-core 2.19 supports: 3.11 to 3.13.
find_python() {
    local candidate PATH=${PATH//"$PWD/.venv/bin:"/}
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

# check_system: set $python, or say all that is missing and how to get it.
check_system() {
    local problems=()
    if [ "$(uname -s)" != Linux ] || ! command -v apt-get >/dev/null; then
        problems+=("this is not Debian or Ubuntu: the emulated devices need a Linux machine with apt (Debian 12 or newer," \
            "  Ubuntu 24.04 or newer); a virtual machine will do. Found: $(uname -s)$(sed -n 's/^PRETTY_NAME=/, /p' /etc/os-release 2>/dev/null)")
    fi
    if [ "$(id -u)" -ne 0 ]; then
        problems+=("this user is not root: packages, a Docker Engine and binfmt_misc need it. Run it again with sudo," \
            "  for example: sudo make setup")
    fi
    python=$(find_python)
    if [ -z "$python" ]; then
        problems+=("no Python 3.11, 3.12 or 3.13: apt-get install python3.11 python3.11-venv, or name one: PYTHON=/path/to/python3.11")
    fi
    if [ "${#problems[@]}" -gt 0 ]; then die "this machine lacks what the set-up needs" "${problems[@]}"; fi
    say "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release), $(uname -m), $(nproc) cores, $("$python" --version) at $python"
}

# wanted_packages: print the Debian packages that the set-up uses on this machine, those of tests only where $for_tests says so.
wanted_packages() {
    echo ca-certificates iptables mmdebstrap debian-archive-keyring openssh-client
    if [ "$for_tests" ]; then
        echo prometheus strace e2fsprogs
        echo jq # verifies evidence as its page says
        echo chromium chromium-driver # look at the report as a person does
        echo cron # runs the crontab of the examples
    fi
    if [ "$(dpkg --print-architecture)" != arm64 ]; then echo arch-test binfmt-support qemu-user-static; fi
    # Docker's own packages conflict with Debian's: whatever engine is there is taken.
    if ! command -v dockerd >/dev/null && [ ! -S /var/run/docker.sock ]; then echo docker.io; fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))'
    fi
}

is_installed() { dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# unpack_program PROGRAM PACKAGE...: have a server's PROGRAM (usr/sbin/nginx) in .cache/NAME. Its packages are
# not installed: they would begin to listen.
unpack_program() {
    local program=$1 target package
    shift
    target=.cache/$(basename "$program")
    if [ -x "$target/$program" ]; then
        say "there"
        return
    fi
    rm -rf "$target"
    mkdir -p "$target"
    (cd "$target" && apt-get download --quiet=2 -o APT::Sandbox::User=root "$@") ||
        { watched "$logs/apt-update.log" apt-get update -o Acquire::Retries=5 &&
            (cd "$target" && apt-get download --quiet=2 -o APT::Sandbox::User=root "$@"); }
    for package in "$target"/*.deb; do
        dpkg-deb --extract "$package" "$target"
        rm "$package"
    done
    say "in $target"
}

install_packages() {
    local package missing=()
    for package in $(wanted_packages); do
        if ! is_installed "$package"; then missing+=("$package"); fi
    done
    if [ "${#missing[@]}" -eq 0 ]; then
        say "all there"
        return
    fi
    say "installing ${missing[*]}"
    watched "$logs/apt-update.log" apt-get update -o Acquire::Retries=5
    watched "$logs/apt-install.log" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 "${missing[@]}"
}
