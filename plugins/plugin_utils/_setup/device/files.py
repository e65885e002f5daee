# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Files on the device: what is at a path, and a whole file put in its place."""

from __future__ import annotations

import grp
import os
import pwd
import stat

from .commands import call


def describe(path: str, follow: bool = False) -> str:
    """Kind, owner, group and mode of what is at a path, or ``absent``."""
    try:
        found = os.stat(path) if follow else os.lstat(path)
    except FileNotFoundError:
        return "absent"
    kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"), (stat.S_ISLNK, "link"))
    kind = ([name for is_kind, name in kinds if is_kind(found.st_mode)] or ["special file"])[0]
    owner = _user_name(found.st_uid)
    return f"{kind} {owner}:{group_name(found.st_gid)} {stat.S_IMODE(found.st_mode):04o}"


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def read_file(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write_file(path: str, content: bytes, owner: str, group: str, mode: str) -> None:
    """Put a file in place of what is at ``path``: as it was or as it shall be, whatever interrupts the writing."""
    directory, name = os.path.split(path)
    make_directories(directory)
    part = os.path.join(directory, "." + name + ".part")
    if os.path.lexists(part):
        os.unlink(part)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        give(file.fileno(), owner, group, mode)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_directory(directory)


def give(path: str | int, owner: str, group: str, mode: str) -> None:
    # The mode last: a change of the owner takes some of its bits away.
    os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    os.chmod(path, int(mode, 8))


def remove_tree(path: str) -> None:
    call(["rm", "-rf", "--", path])


def make_directories(path: str) -> None:
    """Make a directory and those above it that are missing, for everybody to read."""
    if not os.path.isdir(path):
        make_directories(os.path.dirname(path))
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)
        sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
