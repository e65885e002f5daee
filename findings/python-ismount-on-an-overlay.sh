#!/usr/bin/env bash
# On an overlay of a card and a disk in memory, Python's os.path.ismount calls every file a mount.
#
# Guess:    os.path.ismount is true of the places where something is mounted, and a file is none of them.
# Truth:    it compares a path's device number with its directory's. Where the layers of an overlay are on two filesystems, the
#           kernel gives files a device number of their own, and directories that of the overlay. So every file is a mount, also
#           one that was written a moment ago; directories are told right.
# Versions: Python's standard library (seen with 3.11), Linux 6.18, overlayfs.
# Fleet:    a device with a read-only root, such as the overlay of Raspberry Pi OS or Ubuntu's overlayroot, is such an overlay.
#           A tool that leaves mounts alone when it removes, copies or measures a tree leaves out all files there; one that
#           lists what is below a mount fails. Ask os.path.isdir as well, or read /proc/self/mountinfo.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

python=$(python_from 3.8)
printf '%s, Linux %s\n' "$("$python" --version)" "$(uname -r)"
unshare --map-root-user --mount true 2>/dev/null || cannot "unshare: a namespace of mounts is not allowed here"
# overlay CARD MEMORY ROOT: what is mounted lasts as long as the process.
cat >"$folder/overlay" <<'EOF'
set -e
mkdir -p "$1" "$2" "$3"
mount -t tmpfs none "$1"; mount -t tmpfs none "$2"
mkdir "$1/etc" "$2/upper" "$2/work"; echo old >"$1/etc/old"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" none "$3"
echo new >"$3/etc/new"
exec "$4" -c "import os, sys
for name in sys.argv[2:]: print(name, os.path.ismount(os.path.join(sys.argv[1], name)))" "$3" . etc etc/old etc/new
EOF
seen=$(unshare --map-root-user --mount --propagation private sh "$folder/overlay" \
    "$folder/card" "$folder/memory" "$folder/root" "$python") || cannot "an overlay cannot be mounted here"
expect "the overlay itself" ". True" "$(grep '^\. ' <<<"$seen")"
expect "a directory on it" "etc False" "$(grep '^etc ' <<<"$seen")"
expect "a file of the card" "etc/old True" "$(grep '^etc/old ' <<<"$seen")"
expect "a file that was just written" "etc/new True" "$(grep '^etc/new ' <<<"$seen")"
finish
