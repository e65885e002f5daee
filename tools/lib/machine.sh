# shellcheck shell=bash
# The whole ARM machines: their root file systems, made once and cached, and the disks of this clone. To be sourced.

machine_packages=udev,kmod,apparmor,docker.io,podman,aardvark-dns,catatonit,crun,iptables,netavark

# make_machine SUITE: have the disk of a machine with that Debian in .cache/arm-machine/SUITE.
make_machine() {
    local suite=$1 directory=.cache/arm-machine/$1 digest file
    digest=$(cat molecule/shared/device/*-rootfs molecule/shared/machine/{machine-rootfs,initramfs-init} tools/lib/machine.sh |
        sha256sum | cut -c 1-12)
    file=$cache/machine-$suite-$digest.tar
    if [ -s "$file" ]; then
        say "cached: $file"
    else
        say "Debian $suite with its kernel, Podman and Docker for arm64: up to fifteen minutes, emulated" \
            "(log: $logs/machine-$suite.log)"
        rm -rf --one-file-system "${work:?}/machine-$suite" "$cache/machine-$suite"-*.tar
        install -d "$cache" "$work/machine-$suite"
        TMPDIR=$work/machine-$suite watched "$logs/machine-$suite.log" nice molecule/shared/device/build-rootfs arm64 "$file" \
            "$suite" "--include=$machine_packages" --customize-hook="$PWD/molecule/shared/machine/machine-rootfs"
    fi
    digest=$(echo "$file" && find molecule/shared/machine molecule/shared/device/overlay .ansible/fleet/id_ed25519.pub \
        -type f -exec sha256sum {} + | sort)
    if [ "$(cat "$directory/.stamp" 2>/dev/null)" = "$digest" ]; then
        say "there: $directory"
        return
    fi
    rm -rf "$directory"
    install -d "$directory"
    watched "$logs/machine-disk.log" molecule/shared/machine/build-disk "$file" .ansible/fleet/id_ed25519.pub "$directory"
    echo "$digest" >"$directory/.stamp"
    say "made $directory"
}
