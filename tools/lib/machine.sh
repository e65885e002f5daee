# shellcheck shell=bash
# The whole machines: their root file systems, made once and cached, and the disks of this clone. To be sourced.

machine_packages=udev,kmod,apparmor,docker.io,podman,aardvark-dns,catatonit,crun,iptables,netavark

# make_machine ARCHITECTURE SUITE: have the disk of a machine with that Debian in .cache/machine/ARCHITECTURE-SUITE.
make_machine() {
    local architecture=$1 suite=$2 directory=.cache/machine/$1-$2 packages=$machine_packages digest file
    # Docker's command is a package of its own there, and netavark asks nftables.
    if [ "$suite" != bookworm ]; then packages=$packages,docker-cli,nftables; fi
    digest=$(cat molecule/shared/device/*-rootfs molecule/shared/machine/{machine-rootfs,initramfs-init} tools/lib/machine.sh |
        sha256sum | cut -c 1-12)
    file=$cache/machine-$architecture-$suite-$digest.tar
    if [ -s "$file" ]; then
        say "cached: $file"
    else
        say "Debian $suite with its kernel, Podman and Docker for $architecture: up to fifteen minutes where it is emulated" \
            "(log: $logs/machine-$architecture-$suite.log)"
        rm -rf --one-file-system "${work:?}/machine-$architecture-$suite" "$cache/machine-$architecture-$suite"-*.tar
        install -d "$cache" "$work/machine-$architecture-$suite"
        TMPDIR=$work/machine-$architecture-$suite watched "$logs/machine-$architecture-$suite.log" \
            nice molecule/shared/device/build-rootfs "$architecture" "$file" "$suite" "--include=$packages" \
            --customize-hook="$PWD/molecule/shared/machine/machine-rootfs"
    fi
    digest=$(echo "$file" && find molecule/shared/machine molecule/shared/device/overlay .ansible/fleet/id_ed25519.pub \
        -type f -exec sha256sum {} + | sort)
    if [ "$(cat "$directory/.stamp" 2>/dev/null)" = "$digest" ]; then
        say "there: $directory"
        return
    fi
    rm -rf "$directory"
    install -d "$directory"
    watched "$logs/machine-disk.log" molecule/shared/machine/build-disk "$architecture" "$file" .ansible/fleet/id_ed25519.pub \
        "$directory"
    echo "$digest" >"$directory/.stamp"
    say "made $directory"
}
