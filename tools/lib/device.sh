# shellcheck shell=bash
# The emulated device's root file system, made once and cached, and its image. To be sourced.

rootfs_pid=""

# begin_rootfs: start to build the root file system in the background, unless it is cached.
begin_rootfs() {
    rootfs=$cache/rootfs-$(cat molecule/shared/device/*-rootfs | sha256sum | cut -c 1-12).tar
    if [ -s "$rootfs" ]; then
        say "cached: $rootfs"
        return
    fi
    if [ -x .venv/bin/python ] && .venv/bin/python tools/device_image.py exists 2>/dev/null; then
        say "not needed: the Docker Engine has the image"
        return
    fi
    say "Debian 12 for arm64, emulated: three to four minutes, in the background (log: $logs/rootfs.log)"
    rm -rf --one-file-system "$work" "$cache"/*.part.tar
    install -d "$cache" "$work"
    TMPDIR=$work launch "$logs/rootfs.log" molecule/shared/device/build-rootfs "$rootfs"
    rootfs_pid=$launched
}

# make_device_image: wait for the root file system and make the image from it, unless the engine has the image.
make_device_image() {
    if .venv/bin/python tools/device_image.py exists; then
        say "the Docker Engine has $(.venv/bin/python tools/device_image.py tag)"
        return
    fi
    if [ -n "$rootfs_pid" ]; then await "$rootfs_pid" "$logs/rootfs.log" build-rootfs; fi
    watched "$logs/image.log" .venv/bin/python tools/device_image.py load "$rootfs"
    say "made $(.venv/bin/python tools/device_image.py tag) from $rootfs"
}
