#!/usr/bin/env bash
# bspatch and bsdiff4 apply a patch to a file that it was not made from, and end with success.
#
# Guess:    a patch says what it was made from, and is refused for any other file, as xdelta3 and `zstd --patch-from` do.
# Truth:    the format has no checksum of either side. Of another version of the same size comes a file of the right size, with the wrong
#           bytes, exit code 0. xdelta3 finds a wrong checksum, zstd too, and neither leaves a file.
# Versions: bsdiff 4.3, xdelta3 3.0.11 and zstd 1.5.4 of Debian 12; bsdiff4 1.3.2 from PyPI.
# Fleet:    models of one architecture all have the same size, so the wrong base is the usual case, not the odd one: a device that skipped a
#           version, or whose file was damaged by its card, gets a mixture of two trainings that loads and answers. Check
#           the base's digest before, and the result's after.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack bsdiff xdelta3 zstd
install here bsdiff4==1.3.2
cd "$folder"
# Three versions of some weights: of one size, and a tenth of the numbers other ones.
python3 - <<'EOF'
import array, random

chance = random.Random(0)
weights = array.array("f", (chance.gauss(0, 1) for _ in range(250_000)))
for name in ("first", "second", "third"):
    with open(name, "wb") as file:
        file.write(weights.tobytes())
    for place in chance.sample(range(len(weights)), len(weights) // 10):
        weights[place] += chance.gauss(0, 0.1)
EOF
bin=$folder/debian/usr/bin
"$bin/bsdiff" second third patch.bsdiff
"$bin/xdelta3" -e -s second third patch.xdelta3
"$bin/zstd" --quiet --patch-from=second third -o patch.zstd 2>log
bsdiff4=(here/bin/python -c 'import bsdiff4, sys; bsdiff4.file_patch(*sys.argv[1:])')
# patched COMMAND…: how the command that writes "result" ends, and what the result is
patched() {
    local code=0
    rm -f result
    "$@" >log 2>&1 || code=$?
    if [ ! -e result ]; then
        echo "ends with $code, no file"
    elif cmp --silent result third; then
        echo "ends with $code, right"
    else
        echo "ends with $code, wrong, $(stat --format=%s result) bytes"
    fi
}

for base in second first; do
    case $base in
        second) name="the right base" bsdiff="ends with 0, right" other="ends with 0, right" ;;
        first) name="the version before it" bsdiff="ends with 0, wrong, 1000000 bytes" other="ends with 1, no file" ;;
    esac
    expect "$name: bspatch" "$bsdiff" "$(patched "$bin/bspatch" $base result patch.bsdiff)"
    expect "$name: bsdiff4" "$bsdiff" "$(patched "${bsdiff4[@]}" $base result patch.bsdiff)"
    expect "$name: xdelta3" "$other" "$(patched "$bin/xdelta3" -d -s $base patch.xdelta3 result)"
    expect "$name: zstd" "$other" "$(patched "$bin/zstd" --quiet -d --patch-from=$base patch.zstd -o result)"
done
cd /
finish
