#!/usr/bin/env bash
# A package whose upgrade was cut off before it was unpacked stays half-installed, and every usual repair ends with success.
#
# Guess:    after a power cut in the middle of dpkg, `dpkg --configure -a` and an install of the version that is wanted mend it, or fail.
# Truth:    killed in the new version's preinst, dpkg notes the old version as half-installed and "reinstreq". `dpkg --configure -a`
#           ends with 0 and does nothing. `apt-get install PACKAGE=OLD` ends with 0 and does nothing: that version is installed,
#           by its word. `--fix-broken` likewise. Only `apt-get install --reinstall` mends it.
# Versions: apt 2.6.1, dpkg 1.21.22.
# Fleet:    a device that restarted while it was patched is believed to be mended, because two commands said so, and the next
#           upgrade fails on it. Judge by `dpkg --audit`, and install with --reinstall what has the right version and is not whole.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

for program in apt-get dpkg-deb; do
    command -v "$program" >/dev/null || cannot "$program is needed"
done
apt-get --version | sed -n 1p
dpkg --version | sed -n 1p
root=$folder/root archive=$folder/archive
mkdir -p "$root"/var/lib/dpkg/{info,updates,triggers} "$root"/var/lib/apt/lists/partial "$archive"
mkdir -p "$root"/var/cache/apt/archives/partial "$root"/var/log/apt
touch "$root/var/lib/dpkg/status"
dpkg_options=(--root="$root" --force-not-root --force-script-chrootless --force-bad-path --log=/dev/null)

# package VERSION [PREINST]
package() {
    mkdir -p "$folder/$1/DEBIAN" "$folder/$1/usr/share/tool"
    echo "$1" >"$folder/$1/usr/share/tool/version"
    printf '%s\n' "Package: tool" "Version: $1" "Architecture: all" "Maintainer: a <a@example.org>" "Description: a tool" \
        >"$folder/$1/DEBIAN/control"
    if [ "${2:-}" ]; then
        printf '#!/bin/sh\n%s\n' "$2" >"$folder/$1/DEBIAN/preinst"
        chmod 755 "$folder/$1/DEBIAN/preinst"
    fi
    dpkg-deb -Znone --build "$folder/$1" "$archive/tool_$1.deb" >/dev/null
}

# exits COMMAND…: its exit code
exits() { local code=0 && "$@" >/dev/null 2>&1 || code=$? && echo "$code"; }

apt_get() {
    apt-get -o Dir::State="$root/var/lib/apt" -o Dir::State::Status="$root/var/lib/dpkg/status" -o Dir::Cache="$root/var/cache/apt" \
        -o Dir::Log="$root/var/log/apt" -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=- \
        -o APT::Sandbox::User=root "${dpkg_options[@]/#/--option=Dpkg::Options::=}" --yes --allow-downgrades "$@"
}

state() { dpkg-query --admindir="$root/var/lib/dpkg" --show --showformat='${Version} ${db:Status-Status} ${db:Status-Eflag}' tool; }

package 1.0
# As a power cut does: dpkg is gone in the middle of the new version's preinst.
package 1.1 "kill -9 \$PPID"
digest=$(sha256sum "$archive/tool_1.0.deb" | cut -d ' ' -f 1)
{
    cat "$folder/1.0/DEBIAN/control"
    printf 'Filename: ./tool_1.0.deb\nSize: %s\nSHA256: %s\n' "$(stat -c %s "$archive/tool_1.0.deb")" "$digest"
} >"$archive/Packages"
echo "deb [trusted=yes] file:$archive ./" >"$folder/sources.list"
dpkg "${dpkg_options[@]}" --install "$archive/tool_1.0.deb" >/dev/null 2>&1
{ dpkg "${dpkg_options[@]}" --install "$archive/tool_1.1.deb" || true; } >/dev/null 2>&1
apt_get update >/dev/null 2>&1

expect "after the cut" "1.0 half-installed reinstreq" "$(state)"
expect "dpkg --configure -a, exit code" 0 "$(exits dpkg "${dpkg_options[@]}" --configure --pending)"
expect "and then" "1.0 half-installed reinstreq" "$(state)"
expect "apt-get install tool=1.0, exit code" 0 "$(exits apt_get install tool=1.0)"
expect "and then" "1.0 half-installed reinstreq" "$(state)"
expect "apt-get install --fix-broken tool=1.0, exit code" 0 "$(exits apt_get install --fix-broken tool=1.0)"
expect "and then" "1.0 half-installed reinstreq" "$(state)"
expect "apt-get install --reinstall tool=1.0, exit code" 0 "$(exits apt_get install --reinstall tool=1.0)"
expect "and then" "1.0 installed ok" "$(state)"
finish
