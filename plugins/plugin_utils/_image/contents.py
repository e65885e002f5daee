# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What an image has: which of Debian's packages, which of their files, and what is beside them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from typing import Iterable, Mapping

from .debian import ImageError, Package
from .elf import needed_libraries, without_debugging
from .layer import Entry, Files

SUITE = "bookworm"
PYTHON = "3.11"
# Python, what the wheels and its own extensions are linked to, and what says which Debian it is. What changes seldom is
# first: an engine unpacks again what is above a changed layer.
PACKAGES = (
    "base-files",
    "gcc-12-base",
    "libgcc-s1",
    "libffi8",
    "libuuid1",
    "libbz2-1.0",
    "liblzma5",
    "zlib1g",
    "libstdc++6",
    "libsqlite3-0",
    "libexpat1",
    "libc6",
    "libssl3",
    f"libpython{PYTHON}-minimal",
    f"python{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
)
# What a package depends on and does not get: its scripts do not run, and these modules of Python's are left out.
NOT_NEEDED = frozenset(
    {
        *("awk", "libcrypt1", "libdb5.3", "libncursesw6", "libnsl2", "libreadline8", "libtinfo6", "libtirpc3"),
        *("mawk", "media-types"),
    }
)
VENV = "opt/edgeml/venv"
SITE_PACKAGES = f"{VENV}/lib/python{PYTHON}/site-packages"
APP = "opt/edgeml/app"
# Whoever starts a container names the service's user. This one owns nothing on any system.
USER = "65532:65532"

_LEFT_OUT = re.compile(
    r"usr/share/(?!doc/[^/]+/copyright\Z|zoneinfo)"
    r"|usr/(bin|sbin)/(?!python)"
    r"|(usr/)?lib/[^/]+/(gconv|audit)/"
    r"|(etc|var|root|home|srv|media|mnt|boot|proc|sys|dev|run|tmp|bin|sbin)/(?!debian_version\Z|os-release\Z)"
    r"|usr/lib/(locale|ssl|valgrind|tmpfiles\.d|mime)/"
    rf"|usr/lib/python{re.escape(PYTHON)}/(_sysconfigdata_d|config-|curses/|ensurepip/|idlelib/|lib2to3/|pydoc_data/|test/|tkinter/"
    r"|turtle|dbm/ndbm|lib-dynload/(_curses|_curses_panel|_crypt|_dbm|_gdbm|_test[a-z]*|_xx[a-z]*|xxlimited[_0-9]*|nis|readline|_ctypes_test)\.)"
)
_WHEELS_LEFT_OUT = re.compile(
    r"(.*/)?(tests|testing/tests)/"
    r"|.*\.(pyi|pxd|pyx|pxi|cpp|h|hpp|a|c|lib|md)\Z"
    r"|.*\.dist-info/(INSTALLER|REQUESTED|RECORD|direct_url\.json)\Z"
    r"|numpy/(distutils|f2py|typing|_pyinstaller|doc)/"
    # The library is for programs in C: Python's own extension has all of it once more, and is not linked to it.
    r"|onnxruntime/(tools|transformers|quantization|datasets|backend|capi/libonnxruntime\.so)"
    r"|bin/"
)


def package_files(package: Package) -> Files:
    """What an image has of a package: no documentation but its licence, no programs but Python, and the record by which
    scanners know the package."""
    kept = {path: entry for path, entry in package.files.items() if not _LEFT_OUT.match(path)}
    status = f"var/lib/dpkg/status.d/{package.name}"
    kept[status] = Entry(0o644, package.control.encode("utf-8"))
    if package.md5sums:
        kept[f"{status}.md5sums"] = Entry(0o644, package.md5sums)
    return kept


def wheel_files(files: Files) -> Files:
    """What an image has of a wheel that is unpacked: what the server runs, without what is for debuggers."""
    return {
        f"{SITE_PACKAGES}/{path}": replace(entry, content=without_debugging(entry.content))
        for path, entry in files.items()
        if not _WHEELS_LEFT_OUT.match(path)
    }


def environment_files() -> Files:
    """What makes Python find the wheels, as in a virtual environment, and what programs expect of any system."""
    return {
        "etc/passwd": Entry(0o644, b"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"),
        "etc/group": Entry(0o644, b"root:x:0:\nnonroot:x:65532:\n"),
        "etc/nsswitch.conf": Entry(0o644, b"passwd: files\ngroup: files\nhosts: files dns\n"),
        "usr/bin/python3": Entry(0o777, target=f"python{PYTHON}"),
        f"{VENV}/bin/python": Entry(0o777, target=f"/usr/bin/python{PYTHON}"),
        f"{VENV}/pyvenv.cfg": Entry(
            0o644, f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n".encode()
        ),
    }


# Directories that have a mode of their own, or have to be there for what is mounted.
DIRECTORIES: Mapping[str, int] = {
    "etc/edgeml": 0o755,
    "proc": 0o555,
    "run/edgeml": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "var/lib/edgeml-inference": 0o755,
    "var/lib/edgeml/store": 0o755,
}


def check_dependencies(packages: Iterable[Package]) -> None:
    """Raise ImageError where a package depends on one that neither is in the image nor is known not to be needed."""
    packages = list(packages)
    held = {package.name for package in packages}
    for package in packages:
        for field in ("Pre-Depends", "Depends"):
            for alternatives in filter(None, package.field(field).split(", ")):
                names = {re.split(r"[ :(]", each, maxsplit=1)[0] for each in alternatives.split(" | ")}
                if not names & (held | NOT_NEEDED):
                    raise ImageError(
                        f"{package.name} {package.version} depends on {alternatives}, which the image has not: "
                        "add the package to PACKAGES in contents.py, or to NOT_NEEDED"
                    )


def check_libraries(files: Files) -> None:
    """Raise ImageError where a program is linked to a library that is nowhere in the image."""
    held = {posixpath.basename(path) for path in files if ".so" in path}
    for path, entry in sorted(files.items()):
        for library in needed_libraries(entry.content):
            if library not in held:
                raise ImageError(f"{path}: expected {library}, to which it is linked, in the image; found none")
