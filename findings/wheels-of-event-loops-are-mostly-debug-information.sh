#!/usr/bin/env bash
# Most of what uvloop's and httptools' wheels install is information for a debugger.
#
# Guess:    a released wheel is stripped, as nearly all are: its size is what the code needs.
# Truth:    more than 80% of uvloop's 13 MB are `.debug_*` sections, and 69 to 79% of httptools' extensions, for aarch64 as for
#           x86-64; cffi's wheel, as most, has none.
# Versions: uvloop 0.22.1, httptools 0.7.1, cffi 2.0.0, for CPython 3.11.
# Fleet:    an application that is copied to each device, and each image, carries 11 MB that nothing reads, more than many a
#           quantised model. `strip --strip-debug` on the build machine keeps the code; the file's digest is another one then, so
#           that it cannot be checked against the index any more.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here pyelftools==0.32
for package in uvloop==0.22.1 httptools==0.7.1 cffi==2.0.0; do
    for machine in x86_64 aarch64; do
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.11 \
            --platform "manylinux_2_28_$machine" --platform "manylinux2014_$machine" --platform "manylinux1_$machine" \
            --dest "$folder/$machine" "$package" 2>"$folder/pip.log" || cannot "pip download $package: $(tail -n 1 "$folder/pip.log")"
    done
done
python_finding here <<'END'
import glob
import io
import zipfile

from elftools.elf.elffile import ELFFile
from finding import expect


def debug_percent(machine, package):
    """Bytes of debug sections in all extensions of a wheel, in percent of these extensions."""
    [wheel] = glob.glob(f"{machine}/{package}-*.whl")
    debug = total = 0
    with zipfile.ZipFile(wheel) as file:
        for name in file.namelist():
            if name.endswith(".so"):
                content = file.read(name)
                total += len(content)
                sections = ELFFile(io.BytesIO(content)).iter_sections()
                debug += sum(section.data_size for section in sections if section.name.startswith(".debug"))
    return 100 * debug // total


for machine in ("x86_64", "aarch64"):
    for package, least in (("uvloop", 80), ("httptools", 60)):
        percent = debug_percent(machine, package)
        expect(f"{package}, {machine}", f"more than {least}%", f"more than {least}%" if percent > least else f"{percent}%")
    expect(f"cffi, {machine}", "0%", f"{debug_percent(machine, 'cffi')}%")
END
finish
