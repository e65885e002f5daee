# shellcheck shell=bash
# The emulated device's root file system, made once and cached, and its image. To be sourced.

rootfs_pid=""

# begin_rootfs ARCHITECTURE: start to build the root file system in the background, unless it is cached.
begin_rootfs() {
    rootfs=$cache/rootfs-$1-$(cat molecule/shared/device/*-rootfs | sha256sum | cut -c 1-12).tar
    if [ -s "$rootfs" ]; then
        say "cached: $rootfs"
        return
    fi
    if [ -x .venv/bin/python ] && .venv/bin/python tools/device_image.py --architecture "$1" exists 2>/dev/null; then
        say "not needed: the Docker Engine has the image"
        return
    fi
    say "Debian 12 for $1, emulated: three to four minutes, in the background (log: $logs/rootfs.log)"
    rm -rf --one-file-system "$work" "$cache/rootfs-$1"-*.part.tar
    install -d "$cache" "$work"
    TMPDIR=$work launch "$logs/rootfs.log" molecule/shared/device/build-rootfs "$1" "$rootfs"
    rootfs_pid=$launched
}

# make_device_image ARCHITECTURE: wait for the root file system and make the image from it, unless the engine has the image.
make_device_image() {
    local image=(.venv/bin/python tools/device_image.py --architecture "$1")
    if "${image[@]}" exists; then
        say "the Docker Engine has $("${image[@]}" tag)"
        return
    fi
    if [ -n "$rootfs_pid" ]; then await "$rootfs_pid" "$logs/rootfs.log" build-rootfs; fi
    watched "$logs/image.log" "${image[@]}" load "$rootfs"
    say "made $("${image[@]}" tag) from $rootfs"
}
