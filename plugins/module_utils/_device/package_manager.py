# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Debian's packages on this device: what is installed, and how a snapshot is installed, by dpkg and apt."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Iterator, Mapping, NamedTuple, Sequence

from .._common.errors import IncompatibleError, ServerError, StoreError
from .._common.files import free_room, remove_tree
from .._common.process import run_command
from .._release.packages import Snapshot

# A package with many files on a slow card takes its time; systemd's unit has no limit of its own either.
_SECONDS = 4 * 3600
_STATUS = "${Package}\t${Architecture}\t${Version}\t${db:Status-Status}\t${db:Status-Eflag}\t${Installed-Size}\n"
_UNMET = re.compile(r" (Pre)?Depends: | Conflicts: | Breaks: ")
_NEW = re.compile(r"Inst (\S+) \(")
_ABSENT = ("not-installed", "config-files")
_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
    "NEEDRESTART_SUSPEND": "1",
    "APT_LISTCHANGES_FRONTEND": "none",
}
# A file of the device's own is kept, as is one that somebody changed.
_CONFIGURATION_FILES = ("--force-confdef", "--force-confold")


class Installed(NamedTuple):
    """A package on this device. ``complete``: nothing of its installation was left undone."""

    version: str
    complete: bool
    size_bytes: int


class Change(NamedTuple):
    """A package of which another version is to be installed."""

    name: str
    before: str
    after: str
    size_bytes: int
    growth_bytes: int


class PackageManager:
    """dpkg and apt of the system below ``root``; ``options`` are further ones of dpkg."""

    def __init__(self, root: str = "/", options: Sequence[str] = ()) -> None:
        self._root = root
        self._dpkg_options = [*_CONFIGURATION_FILES, *options]
        if root != "/":
            self._dpkg_options.insert(0, f"--root={root}")

    def is_there(self) -> bool:
        """Whether this system has dpkg and apt."""
        return all(any(os.access(os.path.join(path, name), os.X_OK) for path in _PATH) for name in ("dpkg", "apt-get"))

    def suite(self) -> str:
        """The release of Debian, by its code name; empty where the system does not say."""
        with contextlib.suppress(OSError), open(os.path.join(self._root, "etc/os-release"), encoding="utf-8") as file:
            for line in file:
                name, _equals, value = line.strip().partition("=")
                if name == "VERSION_CODENAME":
                    return value.strip('"')
        return ""

    def architecture(self) -> str:
        """Debian's name of the architecture."""
        return self._run(["dpkg", "--print-architecture"]).strip()

    def installed(self, architecture: str) -> dict[str, Installed]:
        """The packages of this architecture, and of none, that are installed at least in part, by name."""
        admin = os.path.join(self._root, "var/lib/dpkg")
        found = {}
        for line in self._run(["dpkg-query", f"--admindir={admin}", "--show", f"--showformat={_STATUS}"]).splitlines():
            name, of, version, status, error, size = line.split("\t")
            if of in (architecture, "all") and status not in _ABSENT:
                complete = status == "installed" and error == "ok"
                found[name] = Installed(version, complete, int(size or 0) * 1024)
        return found

    def was_interrupted(self) -> bool:
        """Whether dpkg left something undone that is to be finished first."""
        updates = os.path.join(self._root, "var/lib/dpkg/updates")
        with contextlib.suppress(FileNotFoundError):
            if any(name.isdigit() for name in os.listdir(updates)):
                return True
        return bool(self._dpkg("--audit").strip())

    def finish(self) -> None:
        """Have dpkg finish what was interrupted. Raises ServerError where it cannot."""
        self._dpkg("--configure", "--pending")

    def remove(self, names: Sequence[str]) -> None:
        """Remove packages. Raises ServerError where others need them."""
        self._dpkg("--remove", *names)

    def free_bytes(self) -> int:
        """What is free where packages are unpacked."""
        path = os.path.join(self._root, "usr")
        return free_room(path if os.path.isdir(path) else self._root).bytes

    @contextlib.contextmanager
    def source(self, directory: str, work: str) -> Iterator[Source]:
        """Have apt know the packages of a snapshot in ``directory``, and no others; ``work`` is a path for its lists,
        and is gone after the block."""
        remove_tree(work)
        os.makedirs(os.path.join(work, "partial"))
        try:
            sources = os.path.join(work, "sources.list")
            with open(sources, "w", encoding="utf-8") as file:
                # Each byte was verified when it came into the store.
                file.write(f"deb [trusted=yes] file:{os.path.abspath(directory)} ./\n")
            options = [
                *(f"Dir::Etc::SourceList={sources}", "Dir::Etc::SourceParts=-"),
                *("Dir::Etc::Preferences=-", "Dir::Etc::PreferencesParts=-"),
                *(f"Dir::State::Lists={work}", "Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache="),
                *("APT::Sandbox::User=root", "APT::Install-Recommends=false", "Acquire::Languages=none"),
                *("DPkg::Lock::Timeout=300", "Dpkg::Use-Pty=0", "APT::List-Cleanup=false"),
                *(f"Dpkg::Options::={option}" for option in self._dpkg_options),
            ]
            if self._root != "/":
                options += [f"Dir::State={self._root}/var/lib/apt", f"Dir::Cache={self._root}/var/cache/apt"]
                options += [f"Dir::State::Lists={work}", f"Dir::State::Status={self._root}/var/lib/dpkg/status"]
                options += [f"Dir::Log={self._root}/var/log/apt"]
            found = Source(self, [part for option in options for part in ("--option", option)])
            found.apt("update", "--error-on=any")
            yield found
        finally:
            remove_tree(work)

    # ---- the parts ----

    def _dpkg(self, *arguments: str) -> str:
        return self._run(["dpkg", *self._dpkg_options, *arguments])

    def _run(self, command: Sequence[str]) -> str:
        """Run a command and return what it printed. Raises ServerError, with what it said last."""
        environment = {**os.environ, **_ENVIRONMENT}
        ended = run_command(command, _SECONDS, shown=command[0], env=environment)
        if ended.code != 0:
            raise ServerError(f"{_shown(command)}: {_reason(ended.stdout + ended.stderr)}")
        return ended.stdout


class Source:
    """apt, with a snapshot as its only source."""

    def __init__(self, manager: PackageManager, options: Sequence[str]) -> None:
        self._manager = manager
        self._options = list(options)

    def added(self, changes: Sequence[Change]) -> list[str]:
        """The packages that come with the changes and are not installed yet. Raises ServerError where apt refuses."""
        return _NEW.findall(self.apt("install", "--simulate", *_versions(changes)))

    def install(self, changes: Sequence[Change]) -> None:
        """Make the changes. Raises ServerError where apt or dpkg fails."""
        # A package of which dpkg has lost track while it unpacked the version that is wanted.
        again = ["--reinstall"] if any(each.before == each.after for each in changes) else []
        self.apt("install", "--fix-broken", *again, *_versions(changes))

    def apt(self, verb: str, *arguments: str) -> str:
        """Run apt-get. Raises ServerError, with what it said."""
        flags = ["--yes", "--allow-downgrades", "--no-remove", "--quiet=2"]
        if "--simulate" in arguments:
            flags[-1] = "--quiet=1"
        return self._manager._run(["apt-get", *self._options, *flags, verb, *arguments])


def changes(snapshot: Snapshot, installed: Mapping[str, Installed]) -> list[Change]:
    """What differs between a snapshot and the device, of the packages that both have."""
    found = []
    for name, package in sorted(snapshot.packages.items()):
        there = installed.get(name)
        if there is None or (there.version == package.version and there.complete):
            continue
        size = package.installed_bytes
        found.append(Change(name, there.version, package.version, size, size - there.size_bytes))
    return found


def check_changes(
    snapshot: Snapshot,
    wanted: Sequence[Change],
    before: Snapshot | None,
    free_bytes: int,
    headroom_percent: int,
    *,
    returns: bool = False,
) -> None:
    """Raise IncompatibleError for a downgrade that the snapshot does not allow, and for a package that the snapshot
    ``before`` has not in the device's version: nothing could bring it back. Raise StoreError where disk is lacking.

    ``returns``: the device had this snapshot, and goes back to it from the one ``before``, which raised versions.
    """
    # Imported here: a device that changes nothing compares nothing.
    from .._release.debian_version import version_key

    held = {} if before is None else {name: package.version for name, package in before.packages.items()}
    lower = [
        f"{each.name} {each.before} to {each.after}"
        for each in wanted
        if version_key(each.after) < version_key(each.before)
        and each.name not in snapshot.downgrades
        and not (returns and held.get(each.name) == each.before)
    ]
    if lower:
        raise IncompatibleError(
            f"the snapshot has lower versions than the device, and does not allow it: {_some(lower)}. Publish it with "
            "--downgrade, or with the newer versions"
        )
    lost = [f"{each.name} {each.before}" for each in wanted if held.get(each.name) != each.before]
    if lost and snapshot.way_back:
        raise IncompatibleError(
            f"no snapshot on this device could bring these packages back: {_some(lost)}. Publish a snapshot with the "
            "versions that devices have, and roll that out first: it changes nothing; or publish this one with "
            "--no-way-back"
        )
    # dpkg unpacks the new files of a package beside the old ones.
    needed = sum(max(each.growth_bytes, 0) for each in wanted) + max((each.size_bytes for each in wanted), default=0)
    if needed > free_bytes * (100 - headroom_percent) // 100:
        raise StoreError(
            f"the packages need {needed} bytes of disk while they are unpacked; {free_bytes} are free, of which "
            f"{headroom_percent}% stay free"
        )


_PATH = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")


def _versions(wanted: Sequence[Change]) -> list[str]:
    return [f"{each.name}={each.after}" for each in wanted]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _shown(command: Sequence[str]) -> str:
    """A command without its options."""
    return " ".join(part for part in command if not part.startswith("-") and "::" not in part)[:200]


def _reason(output: str) -> str:
    """The errors that apt and dpkg print, and where they mark none, the last lines."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    marked = []
    for line, following in zip(lines, [*lines[1:], ""]):
        if line.startswith(("E:", "dpkg: error", "dpkg-deb: error")) or _UNMET.search(line):
            # dpkg ends the line that names the package with a colon, and says the error in the next one.
            marked.append(f"{line} {following}" if line.endswith(":") else line)
    return "; ".join((marked or lines[-3:])[:5])[:1000]
