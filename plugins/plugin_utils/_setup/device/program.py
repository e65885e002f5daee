# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The device's side of ``device_setup``: compares what the device has with what it should have, and makes it so.

The action plugin sends the text of this package's files with each call, and the device's Python runs them as root. So
they have Python 3.8's syntax, need only the standard library, and import little: on a small board an import costs more
than the work.

Everything is compared before it is changed, and by the same code in check mode, which then changes nothing. A file is
replaced whole. A restart that a changed file asks for is noted in ``/run`` before the file is replaced, so that the
next run makes up for it when this one is interrupted.
"""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import re
import time

from .commands import SetupError, call, ends_well, execute, quoted
from .facts import device_facts, require
from .files import describe, give, group_name, make_directories, read_file, remove_tree, sync_directory, write_file
from .programs import Supervisor
from .units import DONE, StillServesError, Systemd, unit_verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

PENDING = "/run/edgeml-setup"
LOCK = "/run/edgeml-setup.lock"
NOT_SHOWN = {"before": "(old content, not shown)\n", "after": "(new content, not shown)\n"}
# apt and dpkg may be at work already, after a boot for example.
APT_LOCK_SECONDS = 300
# What still uses the version before: a swap, a recovery, a look at the trials.
LOCK_SECONDS = 60
# Another run's, for example of one whose connection broke.
RUN_SECONDS = 600
APT = ["apt-get", "--quiet", "--yes", f"--option=DPkg::Lock::Timeout={APT_LOCK_SECONDS}"]


_GO_BACK = """#!/bin/sh
# Puts back what was installed before. Written by the module edgeml.fleet.device_setup.
set -eu
put() {{
    cp "$1" "$2.part"
    chown "$3" "$2.part"
    chmod "$4" "$2.part"
    sync "$2.part"
    mv "$2.part" "$2"
}}
case $1 in
files)
    {files}
    {reload}
    ;;
names)
    {names}
    ;;
outdated)
    {outdated}
    ;;
esac
"""


def outdated_paths(directory: str, pattern: str, keep: Sequence[str]) -> list[str]:
    """What has such a name in a directory and is not to be kept."""
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return [os.path.join(directory, name) for name in names if name not in keep and re.fullmatch(pattern, name)]


class Setup:
    """One run. ``changes`` are the differences found so far: each with ``subject``, ``before`` and ``after``."""

    def __init__(self, check_mode: bool, pending: str = PENDING, manager: Systemd | Supervisor | None = None) -> None:
        self.check_mode = check_mode
        self.changes: list[dict[str, Any]] = []
        self._pending = pending
        self._manager = manager or Systemd()
        # What leads back to what was installed before: commands, files, and the units that ran.
        self._undo: list[Sequence[str]] = []
        self._replaced: list[tuple[str, bytes, str]] = []
        self._ran: list[str] = []
        # Those of them that no new process took over from.
        self._still_serves: set[str] = set()
        # What is to be done to units, as "verb unit".
        self._marks = set(os.listdir(pending)) if os.path.isdir(pending) else set()

    def run(self, request: Mapping[str, Any]) -> list[str]:
        """Do all that is asked for, in the order in which it depends on each other.

        Returns the names that are to be installed from archives, where none were sent; then nothing was changed.
        Raises SetupError; what was changed until then is in ``changes``.
        """
        missing = self.missing(request["bundle"])
        if missing and not self.check_mode and not request["bundle"]["archives"]:
            return missing
        self.install_packages(request["packages"])
        for user in request["users"]:
            self.make_user(**user)
        for directory in request["directories"]:
            self.make_directory(**directory)
        if missing:
            self.install_bundle(request["bundle"], missing)
        if not (missing and self.check_mode):
            # Those of the archives may be needed for it.
            validate_files(request["files"])
        for file in request["files"]:
            self.set_file(**{name: value for name, value in file.items() if name != "validate"})
        for command in request["commands"]:
            self.run_command(**command)
        bundle, way_back = request["bundle"], ""
        if missing and self._replaced:
            way_back = bundle.get("way_back") or self._pending + ".way-back"
            self._save_way_back(way_back, bundle, missing, request["outdated"])
        try:
            self.run_units(request["units"])
            if way_back and self._ran and bundle.get("trial"):
                call(bundle["trial"])
            elif way_back:
                remove_tree(way_back)
        except SetupError as error:
            if not way_back:
                raise
            raise SetupError(f"{error}\n{self._go_back(way_back)}") from None
        if not os.path.exists(bundle.get("way_back") or ""):
            for outdated in request["outdated"]:
                self.remove_outdated(**outdated)
        return []

    def note(self, subject: str, before: str, after: str, **more: Any) -> None:
        """Note a difference."""
        self.changes.append({"subject": subject, "before": before, "after": after, **more})

    def install_packages(self, names: Sequence[str]) -> None:
        """Install the packages that are missing; none is upgraded."""
        if not names:
            return
        query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *names]
        # It fails where one of them is unknown, and lists the others.
        listed = call(query, check=False).split("\n")
        missing = [name for name in names if name + " installed" not in listed]
        for name in missing:
            self.note("package " + name, "absent", "installed")
        if missing and not self.check_mode:
            _update_package_lists()
            keep = ["--option=Dpkg::Options::=--force-confdef", "--option=Dpkg::Options::=--force-confold"]
            call([*APT, "install", "--no-install-recommends", *keep, *missing])

    def make_user(self, name: str, group: str, home: str, shell: str) -> None:
        """Have a system user with this group of its own, without a password. The home directory is not made."""
        before = "absent"
        try:
            entry = pwd.getpwnam(name)
            before = f"group {group_name(entry.pw_gid)}, home {entry.pw_dir}, shell {entry.pw_shell}"
        except KeyError:
            pass
        after = f"group {group}, home {home}, shell {shell}"
        if before == after:
            return
        self.note("user " + name, before, after)
        if self.check_mode:
            return
        if group not in (entry.gr_name for entry in grp.getgrall()):
            call(["groupadd", "--system", group])
        settings = ["--gid", group, "--home-dir" if before == "absent" else "--home", home, "--shell", shell, name]
        call(["useradd", "--system", "--no-create-home", *settings] if before == "absent" else ["usermod", *settings])

    def make_directory(self, path: str, owner: str, group: str, mode: str) -> None:
        """Have a directory with this owner, group and mode (in octal). A link to a directory is one."""
        before, after = describe(path, follow=True), f"directory {owner}:{group} {mode}"
        if before == after:
            return
        if before != "absent" and not os.path.isdir(path):
            raise SetupError(f"{path}: expected a directory, but found a {before}")
        self.note(path, before, after)
        if not self.check_mode:
            make_directories(path)
            give(path, owner, group, mode)

    def set_file(
        self,
        path: str,
        present: bool,
        keep: bool,
        content: str,
        owner: str,
        group: str,
        mode: str,
        secret: bool,
        restarts: str,
        reloads: str,
    ) -> None:
        """Have a file with this content, owner, group and mode, or none.

        With ``keep``, one that is there keeps its content.
        If it changed, the units named are restarted, or reloaded, when their turn comes.
        """
        before = describe(path)
        after = f"file {owner}:{group} {mode}" if present else "absent"
        old = read_file(path) if before.startswith("file ") else None
        new = content.encode() if present else None
        if keep and present and old is not None:
            new = old
        if before == after and old == new:
            return
        if before.startswith("directory "):
            raise SetupError(f"{path}: expected {'a file' if present else 'nothing'}, but found a {before}")
        shown = {
            name: _text(value, NOT_SHOWN[name] if secret else "") for name, value in (("before", old), ("after", new))
        }
        self.note(path, before, after if before != after else after + ", with other content", content=shown)
        if restarts:
            self._mark("restart " + restarts)
        if reloads:
            self._mark("reload " + reloads)
        if path.startswith(self._manager.definitions):
            self._mark("daemon-reload")
        if self.check_mode:
            return
        if old is not None:
            self._replaced.append((path, old, before))
        if new is None:
            os.unlink(path)
            sync_directory(os.path.dirname(path))
        else:
            write_file(path, new, owner, group, mode)

    def run_command(
        self, name: str, check: Sequence[str], run: Sequence[str], undo: Sequence[str], daemon_reload: bool
    ) -> None:
        """Run a command where another one, which changes nothing, does not end with 0. ``undo`` takes it back."""
        if ends_well(check):
            return
        self.note(name, "not done", "done")
        if daemon_reload:
            self._mark("daemon-reload")
        if not self.check_mode:
            call(run)
            if undo:
                self._undo.append(undo)

    def missing(self, bundle: Mapping[str, Any]) -> list[str]:
        """Which of the names that the bundle installs are not there."""
        names: Sequence[str] = bundle.get("names", [])
        return [name for name in names if not os.path.exists(os.path.join(bundle["directory"], name))]

    def install_bundle(self, bundle: Mapping[str, Any], missing: Sequence[str]) -> None:
        """Unpack the archives beside what is there, and have their own installer put it in place."""
        directory: str = bundle["directory"]
        for name in missing:
            self.note(os.path.join(directory, name), "absent", "installed")
        if self.check_mode:
            return
        unpacked = os.path.join(directory, "bundle.part")
        call(["sh", "-c", 'rm -rf -- "$1"/*.part', "sh", directory])
        os.mkdir(unpacked, 0o755)
        for archive in bundle["archives"]:
            call(["tar", "--extract", "--gzip", "--no-same-owner", "--file", archive, "--directory", unpacked])
        # Each archive gave it a mode of its own. What is in it is tested with the rights of the service.
        os.chmod(unpacked, 0o755)
        call([os.path.join(unpacked, "install"), *bundle["arguments"]])
        call(["rm", "-rf", unpacked])

    def run_units(self, units: Sequence[Mapping[str, Any]]) -> None:
        """Have each unit enabled, running, restarted or reloaded as it should be."""
        shown = [self._manager.show(unit["name"]) for unit in units]
        self._ran = [unit["name"] for unit, found in zip(units, shown) if found["ActiveState"] == "active"]
        for unit, properties in zip(units, shown):
            if properties["NeedDaemonReload"] == "yes":
                # It runs from a unit file that was replaced since, by whomever.
                self._mark("restart " + unit["name"])
                self._mark("daemon-reload")
            if unit["enabled"] and properties["UnitFileState"] != "enabled":
                self.note(unit["name"], properties["UnitFileState"] or "absent", "enabled")
                self._mark("daemon-reload")
                if not self.check_mode:
                    self._manager.enable(unit["name"])
        if "daemon-reload" in self._marks:
            if not self.check_mode:
                self._manager.reload()
            self._unmark("daemon-reload")
        contained = os.path.exists("/run/systemd/container")
        for unit, properties in zip(units, shown):
            name: str = unit["name"]
            verb = unit_verb(
                properties["ActiveState"],
                running=unit["running"] and not (contained and unit["outside_containers"]),
                restart="restart " + name in self._marks,
                reload="reload " + name in self._marks,
            )
            if verb:
                self.note(name, properties["ActiveState"], DONE[verb])
                if not self.check_mode:
                    self._control(verb, unit, properties["ActiveState"])
            self._unmark("restart " + name)
            self._unmark("reload " + name)

    def _control(self, verb: str, unit: Mapping[str, Any], active_state: str) -> None:
        lock = unit["handover_lock"]
        try:
            if verb == "restart" and lock:
                if self._manager.hand_over(unit["name"], lock):
                    return
                self.changes[-1]["after"] += ", because it could not hand over: its log says why"
        except StillServesError:
            self._still_serves.add(unit["name"])
            raise
        self._manager.control(verb, unit["name"], active_state)

    def remove_outdated(self, directory: str, pattern: str, keep: Sequence[str], lock: str) -> None:
        """Remove what has such a name in a directory and is not to be kept, while nobody holds the lock.

        What the lock cannot be had for is left to the next run.
        """
        for path in outdated_paths(directory, pattern, keep):
            if not self.check_mode:
                wait = ["flock", f"--timeout={LOCK_SECONDS}", "--conflict-exit-code=0", lock]
                call([*wait, "rm", "--recursive", "--force", path])
                if os.path.exists(path):
                    continue
            self.note(path, "outdated", "absent")

    def _save_way_back(
        self,
        directory: str,
        bundle: Mapping[str, Any],
        missing: Sequence[str],
        outdated: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write what puts back what a new installation replaced: a program, and the contents of the files.

        It outlives this run and a restart of the device. ``go-back files`` puts the files back, and ``go-back names``
        removes the new installation, when the units run from the old one again. ``go-back outdated`` does the
        contrary when the new one is to stay: it removes what it made outdated.
        """
        remove_tree(directory)
        os.makedirs(directory, 0o700)
        files = [quoted(command) for command in reversed(self._undo)]
        for number, (path, content, before) in enumerate(reversed(self._replaced)):
            _kind, owners, mode = before.split()
            saved = os.path.join(directory, str(number))
            write_file(saved, content, "root", "root", "0600")
            files.append(quoted(["put", saved, path, owners, mode]))
        names = quoted(["rm", "-rf", "--", *(os.path.join(bundle["directory"], name) for name in missing)])
        paths = [path for each in outdated for path in outdated_paths(each["directory"], each["pattern"], each["keep"])]
        program = _GO_BACK.format(
            files="\n    ".join(files),
            reload=self._manager.reload_command,
            names=names,
            outdated=quoted(["rm", "-rf", "--", *paths]),
        )
        write_file(os.path.join(directory, "go-back"), program.encode(), "root", "root", "0700")

    def _go_back(self, way_back: str) -> str:
        """Put back what a new installation replaced, and have the units run that did. Returns what became of that."""
        program = os.path.join(way_back, "go-back")
        try:
            call(["sh", program, "files"])
            for name in self._ran:
                if name in self._still_serves:
                    # It runs from the files that are in place again.
                    self._unmark("restart " + name)
                else:
                    # It may have been given up.
                    self._manager.control("restart", name, "failed")
            call(["sh", program, "names"])
            remove_tree(way_back)
        except (SetupError, OSError) as error:
            return f"What was installed before could not be put back: {error}"
        return "What was installed before is in place again" + (f", and runs: {', '.join(self._ran)}" * bool(self._ran))

    def _mark(self, mark: str) -> None:
        """Remember, also for the next run, what is to be done to a unit."""
        if mark not in self._marks and not self.check_mode:
            os.makedirs(self._pending, 0o700, exist_ok=True)
            open(os.path.join(self._pending, mark), "w").close()
        self._marks.add(mark)

    def _unmark(self, mark: str) -> None:
        if mark in self._marks and not self.check_mode:
            os.unlink(os.path.join(self._pending, mark))
        self._marks.discard(mark)


def validate_files(files: Sequence[Mapping[str, Any]]) -> None:
    """Have each new content read by what will use it, before any file changes. Raises SetupError for one it refuses."""
    for file in files:
        content = file["content"].encode() if file["present"] else None
        if not file["validate"] or content is None or read_file(file["path"]) == content:
            continue
        done = execute(file["validate"], content)
        if done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
            raise SetupError(f"{file['path']}: the new content is refused, and no file was changed: {said}")


def for_manager(request: Mapping[str, Any], manager: str) -> dict[str, Any]:
    """The request with those of its further parts that are for devices with this service manager."""
    whole = {name: value for name, value in request.items() if name != "only"}
    for part in request["only"]:
        if manager in part["service_mgr"]:
            for name, items in part["items"].items():
                whole[name] = [*whole[name], *items]
    return whole


def main(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what is asked for. Returns ``changes``, ``missing`` and ``facts``, or ``msg`` with ``failed``."""
    if os.geteuid() != 0:
        return {"failed": True, "msg": "needs to be root on the device: set 'become: true'", "changes": []}
    changes: list[dict[str, Any]] = []
    try:
        facts = device_facts()
        require(request["requires"], facts)
        if not request["check_mode"]:
            _wait_for_other_runs(LOCK)
        manager = Supervisor() if facts["service_mgr"] == "supervisord" else Systemd()
        setup = Setup(request["check_mode"], manager=manager)
        changes = setup.changes
        missing = setup.run(for_manager(request, facts["service_mgr"]))
        return {"changes": changes, "missing": missing, "facts": facts}
    except (SetupError, OSError) as error:
        return {"failed": True, "msg": str(error), "changes": changes}


def _wait_for_other_runs(path: str) -> None:
    """Wait until no other run is at work, and keep further ones waiting until this process ends. Raises SetupError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SetupError(f"another set-up has been at work for {RUN_SECONDS} s: {path} is locked") from None
        time.sleep(0.5)


def _update_package_lists() -> None:
    """Read the lists of packages anew. What reads them already is waited for, which apt does for dpkg's lock only."""
    deadline = time.monotonic() + APT_LOCK_SECONDS
    while True:
        try:
            call([*APT, "update"])
            return
        except SetupError as error:
            if "Could not get lock" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(5)


def _text(content: bytes | None, instead: str) -> str:
    """A file's content for a diff, or ``instead`` of it; nothing where there is no file."""
    if content is None:
        return ""
    return instead or content.decode("utf-8", "replace")
