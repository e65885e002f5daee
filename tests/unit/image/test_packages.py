# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's packages as an image has them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from image_parts import ar_of, tar_of, write_package

from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.contents import (
    check_dependencies,
    check_libraries,
    environment_files,
    package_files,
    wheel_files,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.debian import ImageError, Package, read_package
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.layer import Entry


def test_a_package_is_read_without_being_installed(tmp_path: Path) -> None:
    path = write_package(tmp_path / "one.deb", {"usr/lib/libz.so.1": b"zlib"})
    package = read_package(str(path))
    assert (package.name, package.version, package.field("Nothing")) == ("zlib1g", "1:1.2.13+x", "")
    assert package.files == {"usr/lib/libz.so.1": Entry(0o644, b"zlib")}
    assert package.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK", "expected a package of Debian's"),
        (ar_of({"debian-binary": b"2.0\n"}), r"expected control.tar.xz; found debian-binary"),
        (ar_of({"control.tar": tar_of({"control": b""}), "data.tar.zst": b""}), r"expected data.tar.xz; found"),
    ],
)
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "one.deb"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_package(str(path))


def test_documentation_scripts_and_what_nobody_imports_are_left_out(tmp_path: Path) -> None:
    kept = [
        *("usr/lib/aarch64-linux-gnu/libz.so.1", "usr/bin/python3.11", "usr/share/doc/zlib1g/copyright"),
        *("etc/debian_version", "usr/lib/python3.11/json/__init__.py", "lib/ld-linux-aarch64.so.1"),
        "usr/lib/python3.11/lib-dynload/_ssl.cpython-311-aarch64-linux-gnu.so",
    ]
    left_out = [
        *("usr/share/doc/zlib1g/changelog.gz", "usr/share/man/man1/x.1", "usr/bin/ldd", "etc/profile"),
        *("usr/lib/aarch64-linux-gnu/gconv/IBM1399.so", "usr/lib/python3.11/test/__init__.py", "sbin/ldconfig"),
        "usr/lib/python3.11/lib-dynload/readline.cpython-311-aarch64-linux-gnu.so",
    ]
    package = read_package(str(write_package(tmp_path / "one.deb", dict.fromkeys(kept + left_out, b"x"))))
    files = package_files(package)
    record = "var/lib/dpkg/status.d/zlib1g"
    assert sorted(files) == sorted([*kept, record, f"{record}.md5sums"])
    assert files[record].content.startswith(b"Package: zlib1g\n")


def test_a_wheel_has_what_the_server_runs() -> None:
    names = ["numpy/__init__.py", "numpy/tests/test.py", "numpy/f2py/x.py", "a.pyi", "n-1.dist-info/RECORD"]
    kept = wheel_files({**{name: Entry(0o644, b"x") for name in names}, "n-1.dist-info/METADATA": Entry(0o644, b"x")})
    below = "opt/edgeml/venv/lib/python3.11/site-packages"
    assert sorted(kept) == [f"{below}/n-1.dist-info/METADATA", f"{below}/numpy/__init__.py"]


def test_a_dependency_that_nobody_thought_of_is_named(tmp_path: Path) -> None:
    def packages(depends: str) -> list[Package]:
        return [read_package(str(write_package(tmp_path / "one.deb", {}, name="libssl3", depends=depends)))]

    check_dependencies(packages("libssl3 (>= 1) | libc6, libreadline8"))
    with pytest.raises(ImageError, match=r"libssl3 1:1.2.13\+x depends on libnew \(>= 1\), which the image has not"):
        check_dependencies(packages("libssl3, libnew (>= 1)"))


def test_a_library_that_is_missing_is_named() -> None:
    program = Path("/proc/self/exe").read_bytes()
    with pytest.raises(ImageError, match=r"usr/bin/python: expected lib.*\.so.*, to which it is linked"):
        check_libraries({"usr/bin/python": Entry(0o755, program)})
    check_libraries(environment_files())
