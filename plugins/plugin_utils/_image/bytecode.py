# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Bytecode of an image's Python files, made by the image's own Python as far as this machine can run it."""

from __future__ import annotations

import os
import platform
import tempfile

from ansible_collections.edgeml.fleet.plugins.module_utils._common.process import CommandError, run_command

from .contents import PYTHON
from .debian import ImageError
from .layer import Entry, Files

_LOADERS = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}
_TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
_SECONDS = 600


class Compiler:
    """Compiles Python files with the Python of an image for this machine: bytecode is the same on any architecture.

    ``files`` are those of Debian's packages. Used as a context manager: it has them in a directory meanwhile.
    """

    def __init__(self, files: Files) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="edgeml-python-")
        self._root = os.path.join(self._directory.name, "root")
        write_tree(files, self._root)
        machine = platform.machine()
        if machine not in _LOADERS:
            raise ImageError(f"this machine: expected {' or '.join(_LOADERS)}; found {machine}")
        libraries = [os.path.join(self._root, each, _TRIPLETS[machine]) for each in ("lib", "usr/lib")]
        self._command = [
            os.path.join(self._root, _LOADERS[machine]),
            *("--library-path", ":".join(libraries)),
            os.path.join(self._root, f"usr/bin/python{PYTHON}"),
        ]

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._directory.cleanup()

    def with_bytecode(self, files: Files) -> Files:
        """The same files with the bytecode of each Python file. Raises ImageError where one cannot be compiled."""
        sources = {path: entry for path, entry in files.items() if path.endswith(".py") and entry.target is None}
        if not sources:
            return files
        with tempfile.TemporaryDirectory(prefix="edgeml-compile-") as directory:
            write_tree(sources, directory)
            # No time of a file's is in it, and nothing of this run: the same files give the same bytes.
            options = ["--invalidation-mode", "unchecked-hash", "-j", "1", "-q", "-s", directory, "-p", "/"]
            environment = {
                "PYTHONHOME": os.path.join(self._root, "usr"),
                "PYTHONHASHSEED": "0",
                "LC_ALL": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            command = [*self._command, "-S", "-s", "-m", "compileall", *options, directory]
            try:
                ended = run_command(command, _SECONDS, shown="compileall", env=environment)
            except CommandError as error:
                raise ImageError(f"bytecode: {error}") from error
            if ended.code != 0:
                raise ImageError(f"bytecode: {ended.stdout.strip() or ended.stderr.strip()}")
            made = dict(_read_tree(directory))
        return {**files, **{path: entry for path, entry in made.items() if path.endswith(".pyc")}}


def write_tree(files: Files, directory: str) -> None:
    """Write files below a directory."""
    for path, entry in files.items():
        target = os.path.join(directory, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if entry.target is not None:
            os.symlink(entry.target, target)
            continue
        with open(target, "wb") as file:
            file.write(entry.content)
        os.chmod(target, entry.mode)


def _read_tree(directory: str) -> list[tuple[str, Entry]]:
    found = []
    for parent, _directories, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                found.append((os.path.relpath(path, directory), Entry(0o644, file.read())))
    return found
