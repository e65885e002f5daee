# shellcheck shell=bash
# The root file systems of devices, one for each architecture, made once and cached, and their images. To be sourced.

declare -A rootfs rootfs_pid

# begin_rootfs ARCHITECTURE…: start to build the root file systems in the background, but for those that are cached.
begin_rootfs() {
    local architecture file
    for architecture in "$@"; do
        if [ -n "${rootfs[$architecture]:-}" ]; then continue; fi
        file=$cache/rootfs-$architecture-$(cat molecule/shared/device/*-rootfs | sha256sum | cut -c 1-12).tar
        rootfs[$architecture]=$file
        if [ -s "$file" ]; then
            say "cached: $file"
        elif [ -x .venv/bin/python ] &&
            .venv/bin/python tools/device_image.py --architecture "$architecture" exists 2>/dev/null; then
            say "not needed: the Docker Engine has the image for $architecture"
        else
            say "Debian 12 for $architecture, in the background: up to four minutes if it is emulated, one if it is not" \
                "(log: $logs/rootfs-$architecture.log)"
            rm -rf --one-file-system "${work:?}/$architecture" "$cache/rootfs-$architecture"-*.part.tar
            install -d "$cache" "$work/$architecture"
            TMPDIR=$work/$architecture launch "$logs/rootfs-$architecture.log" \
                molecule/shared/device/build-rootfs "$architecture" "$file"
            rootfs_pid[$architecture]=$launched
        fi
    done
}

# make_device_images ARCHITECTURE…: wait for the root file systems and make images from them, but for those that the engine has.
make_device_images() {
    local architecture image
    for architecture in "$@"; do
        image=(.venv/bin/python tools/device_image.py --architecture "$architecture")
        if "${image[@]}" exists; then
            say "the Docker Engine has $("${image[@]}" tag)"
            continue
        fi
        if [ -n "${rootfs_pid[$architecture]:-}" ]; then
            await "${rootfs_pid[$architecture]}" "$logs/rootfs-$architecture.log" "build-rootfs $architecture"
        fi
        watched "$logs/image.log" "${image[@]}" load "${rootfs[$architecture]}"
        say "made $("${image[@]}" tag) from ${rootfs[$architecture]}"
    done
}
