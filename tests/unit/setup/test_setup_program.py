# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``device_setup`` asks of a device, and what the device makes of it: files, directories, commands."""

from __future__ import annotations

import fcntl
import grp
import itertools
import json
import os
import pwd
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play

from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup import plan
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device import program, units
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.commands import SetupError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.facts import require
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.program import Setup
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.units import unit_verb

OWNER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name
EMPTY_PART: dict[str, Any] = {
    "tags": [],
    **dict.fromkeys(("packages", "users", "directories", "files", "commands", "units", "outdated"), ()),
}


class Place:
    """A directory of a device, and runs of the program that change it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.root.mkdir()
        self.pending = directory / "pending"

    def setup(self, check_mode: bool = False) -> Setup:
        return Setup(check_mode, str(self.pending))

    def request(self, **sections: Any) -> dict[str, Any]:
        return plan.make_request({}, [{**EMPTY_PART, **sections}], None, check_mode=False)

    def run(self, check_mode: bool = False, **sections: Any) -> list[dict[str, Any]]:
        setup = self.setup(check_mode)
        assert setup.run(self.request(**sections)) == []
        return setup.changes

    def file(self, name: str, content: str = "", **more: Any) -> dict[str, Any]:
        default = {
            "present": True,
            "keep": False,
            "mode": "0640",
            "secret": False,
            "validate": [],
            "restarts": "",
            "reloads": "",
        }
        owner = {"owner": OWNER, "group": GROUP}
        return {"path": str(self.root / name), "content": content, **default, **owner, **more}

    def tree(self) -> dict[str, tuple[str, int, str]]:
        """Mode, inode and content of all that is there, by its path."""
        found = {}
        for path in sorted(self.directory.rglob("*")):
            status = path.lstat()
            content = path.read_text() if path.is_file() else ""
            found[str(path.relative_to(self.directory))] = (oct(status.st_mode), status.st_ino, content)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    before = os.umask(0o077)
    yield Place(tmp_path)
    os.umask(before)


def test_a_file_is_made_kept_changed_and_removed(place: Place) -> None:
    file = place.file("etc/app/server.conf", "port = 1\n")
    path = Path(file["path"])
    described = f"file {OWNER}:{GROUP} 0640"
    (made,) = place.run(files=[file])
    assert made == {
        "subject": str(path),
        "before": "absent",
        "after": described,
        "content": {"before": "", "after": "port = 1\n"},
    }
    assert (path.read_text(), oct(path.stat().st_mode)) == ("port = 1\n", "0o100640")
    assert oct(path.parent.stat().st_mode) == "0o40755", "whatever the umask says"
    tree = place.tree()
    assert place.run(files=[file]) == []
    assert place.tree() == tree, "the same inode: nothing was written"

    (changed,) = place.run(files=[{**file, "content": "port = 2\n"}])
    assert (changed["before"], changed["after"]) == (described, f"{described}, with other content")
    assert changed["content"] == {"before": "port = 1\n", "after": "port = 2\n"}
    assert path.read_text() == "port = 2\n"

    path.chmod(0o666)
    (closed,) = place.run(files=[{**file, "content": "port = 2\n"}])
    assert (closed["before"], closed["after"]) == (f"file {OWNER}:{GROUP} 0666", described)
    assert oct(path.stat().st_mode) == "0o100640"

    absent = {**file, "present": False, "content": None}
    assert [change["after"] for change in place.run(files=[absent])] == ["absent"]
    assert not path.exists()
    assert place.run(files=[absent]) == []
    assert list(path.parent.iterdir()) == [], "nothing is left of the writing"


# Takes what is valid JSON.
JSON = [sys.executable, "-c", "import json, sys; json.load(sys.stdin)"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_content_that_its_user_refuses_changes_nothing(place: Place, check_mode: bool) -> None:
    other, file = place.file("other", "1"), place.file("server.json", '{"port": 1}', validate=JSON)
    place.run(files=[other, file])
    tree = place.tree()
    wrong = [{**other, "content": "2"}, {**file, "content": '{"port": }'}]
    with pytest.raises(
        SetupError, match=r"(?s)/server.json: the new content is refused, and no file was changed: .*JSON"
    ):
        place.run(check_mode, files=wrong)
    assert place.tree() == tree
    place.run(files=[{**file, "content": '{"port": 2}'}])
    assert Path(file["path"]).read_text() == '{"port": 2}'


def test_a_content_that_stays_or_goes_is_not_validated(place: Place) -> None:
    file = place.file("server.json", "no JSON")
    place.run(files=[file])
    assert place.run(files=[{**file, "validate": JSON}]) == []
    place.run(files=[{**file, "validate": JSON, "present": False, "content": None}])
    assert not Path(file["path"]).exists()


def test_what_would_validate_may_come_with_the_archives(place: Place) -> None:
    file = place.file("server.json", "{}", validate=[str(place.root / "venv" / "python")])
    bundle = {"directory": str(place.root), "names": ["venv"], "archives": [], "arguments": []}
    request = plan.make_request({}, [{**EMPTY_PART, "files": [file]}], bundle, check_mode=True)
    setup = place.setup(check_mode=True)
    assert setup.run(request) == []
    assert next(change["after"] for change in setup.changes) == "installed"


def test_what_an_interrupted_writing_left_is_no_obstacle(place: Place) -> None:
    (place.root / ".f.part").write_text("half")
    place.run(files=[place.file("f", "whole")])
    assert [path.name for path in place.root.iterdir()] == ["f"]


def test_a_link_is_replaced_and_its_target_left_alone(place: Place) -> None:
    (place.root / "target").write_text("theirs")
    (place.root / "f").symlink_to("target")
    (change,) = place.run(files=[place.file("f", "ours")])
    assert change["before"].startswith("link ")
    assert not (place.root / "f").is_symlink()
    assert (place.root / "target").read_text() == "theirs"


def test_a_secret_is_in_no_result(place: Place) -> None:
    old, new = ("-----BEGIN PRIVATE KEY-----\n" + name for name in ("old", "new"))
    for content in (old, new):
        (change,) = place.run(files=[place.file("key", content, secret=True)])
        assert "PRIVATE KEY" not in json.dumps(change)
        (shown,) = plan.make_result({"changes": [change]}, diff=True)["diff"]
        assert shown["before"] != shown["after"], "the diff tells that it changed"
    assert (place.root / "key").read_text() == new


@pytest.mark.parametrize("present", [True, False])
def test_a_directory_in_a_files_place_is_refused(place: Place, present: bool) -> None:
    (place.root / "f").mkdir()
    with pytest.raises(SetupError, match=r"/f: expected (a file|nothing), but found a directory"):
        place.run(files=[place.file("f", "x", present=present)])


def test_directories_are_made_and_corrected(place: Place) -> None:
    wanted = {"path": str(place.root / "a/b"), "owner": OWNER, "group": GROUP, "mode": "0750"}
    assert [change["before"] for change in place.run(directories=[wanted])] == ["absent"]
    assert oct((place.root / "a/b").stat().st_mode) == "0o40750"
    (place.root / "a/b").chmod(0o700)
    (change,) = place.run(directories=[wanted])
    assert (change["before"], change["after"]) == (
        f"directory {OWNER}:{GROUP} 0700",
        f"directory {OWNER}:{GROUP} 0750",
    )
    assert place.run(directories=[wanted]) == []
    (place.root / "linked").symlink_to("a/b")
    assert place.run(directories=[{**wanted, "path": str(place.root / "linked")}]) == []
    (place.root / "f").write_text("")
    with pytest.raises(SetupError, match="/f: expected a directory, but found a file"):
        place.run(directories=[{**wanted, "path": str(place.root / "f")}])


def test_a_command_is_run_where_its_check_fails(place: Place) -> None:
    done = str(place.root / "done")
    more: dict[str, Any] = {"undo": [], "daemon_reload": False}
    command = {"name": "do it", "check": ["test", "-e", done], "run": ["touch", done], **more}
    assert place.run(check_mode=True, commands=[command]) == place.run(commands=[command])
    assert place.run(commands=[command]) == []
    (place.root / "done").unlink()
    missing = {**command, "check": [str(place.root / "not-installed-yet")]}
    assert [change["subject"] for change in place.run(commands=[missing])] == ["do it"]
    with pytest.raises(SetupError, match="sh -c echo why >&2; exit 3: exit code 3: why"):
        place.run(commands=[{**missing, "run": ["sh", "-c", "echo why >&2; exit 3"]}])


def test_check_mode_says_the_same_and_changes_nothing(place: Place) -> None:
    (place.root / "old").write_text("old")
    sections: dict[str, Any] = {
        "directories": [{"path": str(place.root / "a"), "owner": OWNER, "group": GROUP, "mode": "0750"}],
        "files": [
            place.file("a/new", "new", restarts="a.service"),
            place.file("old", "new", reloads="b.service"),
            place.file("gone", present=False),
        ],
        "commands": [{"name": "c", "check": ["false"], "run": ["true"], "undo": [], "daemon_reload": False}],
    }
    tree = place.tree()
    would = place.run(check_mode=True, **sections)
    assert place.tree() == tree
    assert place.run(**sections) == would
    assert len(would) == 4


def test_a_restart_is_not_forgotten_when_the_run_is_interrupted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            place.run(files=[place.file("f", "x", restarts="a.service")])
    # The file may be in place by now, and the unit still runs with the one before.
    assert [path.name for path in place.pending.iterdir()] == ["restart a.service"]
    place.run(files=[place.file("f", "x", restarts="a.service")])
    assert "restart a.service" in place.setup()._marks


@pytest.mark.parametrize(
    ("state", "running", "restart", "reload", "verb"),
    [
        ("active", True, False, False, ""),
        ("active", True, False, True, "reload"),
        ("active", True, True, True, "restart"),
        ("active", False, True, False, "restart"),
        ("inactive", True, False, False, "start"),
        ("inactive", True, True, True, "start"),
        ("failed", True, False, False, "start"),
        ("activating", True, False, False, "start"),
        ("inactive", False, True, True, ""),
    ],
)
def test_what_is_done_to_a_unit(state: str, running: bool, restart: bool, reload: bool, verb: str) -> None:
    assert unit_verb(state, running=running, restart=restart, reload=reload) == verb


class Systemctl:
    """A ``systemctl`` that says of every unit what it is told to, notes what is asked of it, and may fail at that."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        (directory / "systemctl").write_text(
            f'#!/bin/sh\ncd {directory}\ncase $1 in show) cat shown main;; *) echo "$*" >>calls;; esac\n'
            '[ "$1" != reload ] || [ -e keeps ] || echo "MainPID=$$" >main\n'
            '! grep -qsxF "$*" failing\n'
        )
        (directory / "main").write_text("")
        (directory / "journalctl").write_text("#!/bin/sh\necho the reason\n")
        for name in ("systemctl", "journalctl"):
            (directory / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")

    def show(self, active: str, enabled: str, need_reload: str = "no", reload: str = "") -> None:
        text = f"ActiveState={active}\nUnitFileState={enabled}\nNeedDaemonReload={need_reload}\nExecReload={reload}\n"
        (self._directory / "shown").write_text(text)

    def keep_process(self) -> None:
        """Have a reload that starts no new process."""
        (self._directory / "keeps").touch()

    def fail(self, call: str) -> None:
        (self._directory / "failing").write_text(call + "\n")

    def calls(self) -> list[str]:
        """What was asked for since the last time."""
        path = self._directory / "calls"
        found = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return found


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    (tmp_path / "bin").mkdir()
    return Systemctl(tmp_path / "bin", monkeypatch)


UNIT = {"name": "a.service", "enabled": True, "running": True, "outside_containers": False, "handover_lock": ""}


def test_a_new_unit_is_enabled_loaded_once_and_started(place: Place, systemctl: Systemctl) -> None:
    systemctl.show("inactive", "")
    would = place.run(check_mode=True, units=[UNIT])
    assert systemctl.calls() == []
    assert place.run(units=[UNIT]) == would
    assert systemctl.calls() == ["--quiet --no-reload enable a.service", "daemon-reload", "start a.service"]
    systemctl.show("active", "enabled")
    assert place.run(units=[UNIT]) == []
    assert systemctl.calls() == []


def test_a_unit_follows_its_files_once(place: Place, systemctl: Systemctl) -> None:
    systemctl.show("active", "enabled")
    key = place.file("key", "1", reloads="a.service")
    config = place.file("config", "1", restarts="a.service")
    place.run(files=[key], units=[UNIT])
    assert systemctl.calls() == ["reload a.service"]
    place.run(files=[{**key, "content": "2"}, config], units=[UNIT])
    assert systemctl.calls() == ["restart a.service"]
    place.run(files=[{**key, "content": "2"}, config], units=[UNIT])
    assert systemctl.calls() == []
    watched = {**UNIT, "enabled": False, "running": False}
    systemctl.show("inactive", "")
    place.run(files=[{**config, "content": "2"}], units=[watched])
    assert systemctl.calls() == [], "it does not run, and starts with the file as it is then"
    systemctl.show("active", "")
    assert place.run(units=[watched]) == []


def handed_over(place: Place) -> dict[str, Any]:
    """A unit whose reload has a new process take over."""
    lock = place.directory / "lock"
    lock.touch()
    return {**UNIT, "handover_lock": str(lock)}


def test_a_unit_that_hands_over_is_reloaded_instead_of_restarted(
    place: Place, systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl.show("active", "enabled")
    config, unit = place.file("config", "1", restarts="a.service"), handed_over(place)
    with Path(unit["handover_lock"]).open() as lock, monkeypatch.context() as context:
        fcntl.flock(lock, fcntl.LOCK_EX)
        context.setattr(units, "HANDOVER_LOCK_SECONDS", 0)
        with pytest.raises(SetupError, match=r"a.service: .*/lock was held for 0 s, and the process before serves on"):
            place.run(files=[config], units=[unit])
    assert systemctl.calls() == [], "a swap was going on"
    place.run(files=[config], units=[unit])
    assert systemctl.calls() == ["reload a.service"]
    assert place.run(files=[config], units=[unit]) == []


@pytest.mark.parametrize("status", [75, 219], ids=["says so", "no place beside Podman's processes"])
def test_where_a_handover_cannot_be_the_unit_is_restarted(place: Place, systemctl: Systemctl, status: int) -> None:
    systemctl.show("active", "enabled", reload=f"{{ path=/bin/python ; code=exited ; status={status} }}")
    systemctl.fail("reload a.service")
    changes = place.run(files=[place.file("config", "1", restarts="a.service")], units=[handed_over(place)])
    assert systemctl.calls() == ["reload a.service", "restart a.service"]
    assert changes[-1]["after"] == "restarted, because it could not hand over: its log says why"


def test_a_unit_that_saw_no_change_is_restarted(place: Place, systemctl: Systemctl) -> None:
    systemctl.show("active", "enabled", need_reload="yes")
    systemctl.keep_process()
    place.run(units=[handed_over(place)])
    assert systemctl.calls() == ["daemon-reload", "reload a.service", "restart a.service"], "it has a new drop-in"


def test_a_new_process_that_is_not_ready_leaves_the_one_before(place: Place, systemctl: Systemctl) -> None:
    systemctl.show("active", "enabled", reload="{ path=/bin/python ; code=exited ; status=1 }")
    config, unit = place.file("config", "old", restarts="a.service"), handed_over(place)
    place.run(files=[config], units=[unit])
    systemctl.calls()
    systemctl.fail("reload a.service")
    bundle = bundle_of(place, "app-2")
    request = {**place.request(files=[{**config, "content": "new"}], units=[unit]), "bundle": bundle}
    with pytest.raises(
        SetupError,
        match=r"the one before serves on. (.|\n)*the reason\nWhat was .* in place again, and runs: a.service",
    ):
        place.setup().run(request)
    assert systemctl.calls() == ["reload a.service", "daemon-reload"], "it is not restarted"
    assert Path(config["path"]).read_text() == "old"
    assert not (place.root / "app-2").exists()
    assert place.run(files=[{**config, "content": "old"}], units=[unit]) == [], "it runs from what is in place"


def test_a_restart_that_failed_is_made_up_for(place: Place, systemctl: Systemctl) -> None:
    systemctl.show("active", "enabled")
    systemctl.fail("restart a.service")
    config = place.file("config", "1", restarts="a.service")
    with pytest.raises(
        SetupError, match=r"systemctl restart a.service: exit code 1(.|\n)*The end of its log:\nthe reason"
    ):
        place.run(files=[config], units=[UNIT])
    systemctl.fail("nothing")
    systemctl.calls()
    (change,) = place.run(files=[config], units=[UNIT])
    assert (change["subject"], change["after"]) == ("a.service", "restarted")
    assert systemctl.calls() == ["restart a.service"]
    assert list(place.pending.iterdir()) == []


def test_a_unit_whose_file_somebody_replaced_is_restarted(place: Place, systemctl: Systemctl) -> None:
    systemctl.show("active", "enabled", need_reload="yes")
    place.run(units=[UNIT])
    assert systemctl.calls() == ["daemon-reload", "restart a.service"]


def test_a_unit_that_was_given_up_gets_another_chance(place: Place, systemctl: Systemctl) -> None:
    systemctl.show("failed", "enabled")
    place.run(units=[UNIT])
    assert systemctl.calls() == ["reset-failed a.service", "start a.service"]


def test_without_its_bundle_nothing_is_changed(place: Place) -> None:
    (place.root / "app-1").mkdir()
    bundle = {"directory": str(place.root), "names": ["app-1", "venv-2"], "archives": [], "arguments": []}
    request = {**place.request(files=[place.file("f", "x")]), "bundle": bundle}
    tree = place.tree()
    setup = place.setup()
    assert setup.run(request) == ["venv-2"]
    assert (setup.changes, place.tree()) == ([], tree)
    checked = place.setup(check_mode=True)
    assert checked.run(request) == []
    assert [change["subject"] for change in checked.changes] == [str(place.root / "venv-2"), str(place.root / "f")]


def test_a_bundles_own_installer_puts_what_is_missing_in_place(place: Place) -> None:
    source = place.directory / "source"
    source.mkdir()
    (source / "install").write_text(
        '#!/bin/sh\nset -e\nbundle=${0%/*}\n[ "$(stat -c %a "$bundle")" = 755 ]\nmv "$bundle/new" "$bundle/../$1"\n'
    )
    (source / "install").chmod(0o755)
    # As mktemp makes it on the controller. The service's user runs what is in it.
    source.chmod(0o700)
    (source / "new").mkdir()
    archive = place.directory / "bundle.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", source, "."], check=True)
    (place.root / "bundle.part").mkdir()
    (place.root / "bundle.part" / "of-a-run-before").mkdir()
    bundle = {"directory": str(place.root), "names": ["app-1"], "archives": [str(archive)], "arguments": ["app-1"]}
    setup = place.setup()
    assert setup.run({**place.request(), "bundle": bundle}) == []
    assert [change["subject"] for change in setup.changes] == [str(place.root / "app-1")]
    assert [path.name for path in place.root.iterdir()] == ["app-1"]


def test_the_way_back_stays_until_the_trial_has_ended(place: Place, systemctl: Systemctl) -> None:
    systemctl.show("active", "enabled")
    config = place.file("con fig's", "old", restarts="a.service", mode="0600")
    place.run(files=[config], units=[UNIT])
    (place.root / "app-1").mkdir()
    way_back, begun = place.directory / "way-back", place.directory / "begun"
    outdated = outdated_but(place, "app-2")
    command = {
        "name": "c",
        "check": ["false"],
        "run": ["true"],
        "daemon_reload": False,
        "undo": ["sh", "-c", 'echo undone >"$1"', "sh", f"{place.root}/undone"],
    }
    sections = {"files": [{**config, "content": "new"}], "units": [UNIT], "outdated": [outdated]}
    bundle = {**bundle_of(place, "app-2"), "way_back": str(way_back), "trial": ["touch", str(begun)]}
    place.setup().run({**place.request(**sections, commands=[command]), "bundle": bundle})
    assert begun.exists()
    assert (place.root / "app-1").exists(), "what the way leads to"
    assert stat.S_IMODE(way_back.stat().st_mode) == 0o700
    place.setup().run({**place.request(**sections), "bundle": bundle})
    assert (place.root / "app-1").exists(), "a later run keeps it as well"
    systemctl.calls()
    go_back = ["sh", str(way_back / "go-back")]
    subprocess.run([*go_back, "files"], check=True)
    assert Path(config["path"]).read_text() == "old"
    assert stat.S_IMODE(Path(config["path"]).stat().st_mode) == 0o600
    assert (place.root / "undone").read_text() == "undone\n"
    assert systemctl.calls() == ["daemon-reload"]
    assert (place.root / "app-2").exists(), "until the units run from the old one"
    subprocess.run([*go_back, "names"], check=True)
    assert not (place.root / "app-2").exists()


def test_what_a_good_trial_removes_is_what_a_later_run_would_remove(place: Place, systemctl: Systemctl) -> None:
    systemctl.show("active", "enabled")
    config = place.file("config", "old", restarts="a.service")
    place.run(files=[config], units=[UNIT])
    for name in ("app-1", "app-0", "other"):
        (place.root / name).mkdir()
    way_back = place.directory / "way-back"
    outdated = outdated_but(place, "app-2")
    bundle = {**bundle_of(place, "app-2"), "way_back": str(way_back), "trial": ["true"]}
    sections = {"files": [{**config, "content": "new"}], "units": [UNIT], "outdated": [outdated]}
    place.setup().run({**place.request(**sections), "bundle": bundle})
    # The device moves the way back when the trial has ended.
    ended = way_back.rename(place.directory / "ended-trial")
    subprocess.run(["sh", str(ended / "go-back"), "outdated"], check=True)
    assert sorted(path.name for path in place.root.iterdir()) == ["app-2", "config", "other"]
    setup = place.setup()
    setup.run({**place.request(**sections), "bundle": bundle})
    assert setup.changes == [], "nothing is left for a later run"


def outdated_but(place: Place, name: str) -> dict[str, Any]:
    """All installations but one."""
    return {"directory": str(place.root), "pattern": "app-.", "keep": [name], "lock": f"{place.directory}/lock"}


def bundle_of(place: Place, name: str) -> dict[str, Any]:
    """What installs an empty directory."""
    return {"directory": str(place.root), "names": [name], "archives": [installer(place)], "arguments": [name]}


def installer(place: Place) -> str:
    """An archive that installs an empty directory."""
    source = place.directory / "source"
    source.mkdir()
    (source / "install").write_text('#!/bin/sh\nmkdir "${0%/*}/../$1"\n')
    (source / "install").chmod(0o755)
    archive = place.directory / "bundle.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", source, "."], check=True)
    return str(archive)


@pytest.mark.parametrize("returns", [True, False])
def test_a_new_installation_that_does_not_start_makes_way_for_the_one_before(
    place: Place, systemctl: Systemctl, returns: bool
) -> None:
    systemctl.show("active", "enabled")
    config, other = place.file("config", "old", restarts="a.service"), place.file("other", "old", mode="0600")
    place.run(files=[config, other], units=[UNIT])
    systemctl.calls()
    bundle = bundle_of(place, "app-2")
    systemctl.fail("restart a.service")
    undo = [
        "sh",
        "-c",
        f"echo undone >{place.root}/undone; {'rm' if returns else 'true'} {place.directory}/bin/failing",
    ]
    command = {"name": "c", "check": ["false"], "run": ["true"], "undo": undo, "daemon_reload": False}
    files = [{**config, "content": "new"}, {**other, "content": "new"}, place.file("more", "new")]
    request = {**place.request(files=files, commands=[command], units=[UNIT]), "bundle": bundle}
    expected = (
        "before is in place again, and runs: a.service" if returns else "could not be put back: systemctl restart"
    )
    with pytest.raises(SetupError, match=rf"restart a.service: exit code 1(.|\n)*{expected}"):
        place.setup().run(request)
    assert [(place.root / name).read_text() for name in ("config", "other", "undone")] == ["old", "old", "undone\n"]
    assert stat.S_IMODE((place.root / "other").stat().st_mode) == 0o600
    assert (place.root / "app-2").exists() != returns
    assert "daemon-reload" in systemctl.calls()
    (place.directory / "bin" / "failing").unlink(missing_ok=True)
    place.run(files=[config], units=[UNIT])
    assert systemctl.calls() == ["restart a.service"], "what failed is made up for"


def test_what_is_outdated_goes_unless_it_is_in_use(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("app-1", "app-2", "app-3.part", "data"):
        (place.root / name).mkdir()
    lock = place.directory / "lock"
    outdated = {"directory": str(place.root), "pattern": "app-[^.]+", "keep": ["app-2"], "lock": str(lock)}
    with monkeypatch.context() as context, lock.open("w") as held:
        context.setattr(program, "LOCK_SECONDS", 0)
        fcntl.flock(held, fcntl.LOCK_EX)
        assert place.run(outdated=[outdated]) == []
    assert [change["subject"] for change in place.run(outdated=[outdated])] == [str(place.root / "app-1")]
    assert sorted(path.name for path in place.root.iterdir()) == ["app-2", "app-3.part", "data"]
    assert place.run(outdated=[outdated]) == []


def test_runs_wait_for_each_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = place.directory / "lock"
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with monkeypatch.context() as context:
            context.setattr(program, "RUN_SECONDS", 0)
            with pytest.raises(SetupError, match=r"another set-up has been at work for 0 s: .*/lock is locked"):
                program._wait_for_other_runs(str(lock))
        threading.Timer(0.2, other.communicate, ["\n"]).start()
        program._wait_for_other_runs(str(lock))
        assert other.wait() == 0, "only then"


def test_a_device_of_another_kind_is_refused() -> None:
    facts = {"service_mgr": "openrc-init", "architecture": "armv6l"}
    with pytest.raises(SetupError, match="init system: expected systemd, but found openrc-init"):
        require({"service_mgr": ["systemd"]}, facts)
    with pytest.raises(SetupError, match="architecture: expected aarch64 or armv7l, but found armv6l"):
        require({"architecture": ["aarch64", "armv7l"]}, facts)
    require({"architecture": ["armv6l"]}, facts)


def test_tags_choose_the_parts_as_ansible_chooses_tasks() -> None:
    parts = [{"tags": ["role", "role_time"]}, {"tags": ["role", "role_files"]}]
    # As of a role with `tags: mine` in a play.
    tags = ["mine", "role", "role_time", "role_files"]
    play = Play.load(
        {
            "hosts": "all",
            "tags": ["mine"],
            "tasks": [{"ansible.builtin.meta": "noop", "tags": part["tags"]} for part in parts],
        },
        loader=DataLoader(),
    )
    (block,) = play.tasks
    words = ("all", "tagged", "untagged", "always", "role", "role_time", "mine", "other")
    asked = [[word] for word in words] + [list(pair) for pair in itertools.combinations(words, 2)]
    for only in asked:
        chosen = [task.evaluate_tags(only, [], {}) for task in block.block]
        assert plan.chosen_parts(parts, tags, only) == list(itertools.compress(parts, chosen)), only


def call(request: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The answer of the device's Python to a whole call, as a shell of the device runs it."""
    command = ["sh", "-c", plan.COMMAND]
    done = subprocess.run(command, input=plan.make_input(request), capture_output=True, check=True, **options)
    assert done.stderr == b""
    answer = plan.parse_output("a banner\n" + done.stdout.decode())
    assert answer is not None
    return answer


@pytest.mark.skipif(os.geteuid() != 0, reason="the program wants to be root")
def test_the_whole_call_runs_on_the_devices_python(place: Place) -> None:
    file = place.file("f", "größer ≥ 1\n")
    result = plan.make_result(call(place.request(files=[file])), diff=True)
    assert (result["changed"], result["missing"]) == (True, [])
    assert result["diff"] == [
        {"before_header": file["path"], "after_header": file["path"], "before": "", "after": "größer ≥ 1\n"}
    ]
    assert result["ansible_facts"]["architecture"] == os.uname().machine
    assert (place.root / "f").read_text() == "größer ≥ 1\n"


def test_who_is_not_root_is_told_so(place: Place) -> None:
    options = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    answer = call(place.request(), **options)
    assert answer["failed"]
    assert answer["msg"] == "needs to be root on the device: set 'become: true'"


def test_no_answer_is_told_from_a_bad_one() -> None:
    assert plan.parse_output("sudo: a password is required\n") is None
    assert plan.parse_output('{"changes": [') is None
    assert plan.make_result({"failed": True, "msg": "why", "changes": []}, diff=False) == {
        "changed": False,
        "changes": [],
        "missing": [],
        "failed": True,
        "msg": "why",
    }
