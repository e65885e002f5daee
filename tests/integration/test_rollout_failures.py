# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Twelve devices in batches of four: a rollout stops where ``serial`` with Ansible's own counters goes on.

Each case is run twice: as a play with ``serial`` and ``max_fail_percentage`` (or ``any_errors_fatal``) around the same
module, to see what Ansible does, and as a rollout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible, Run
from device_app import command_shell
from releases import make_release, publish
from rollouts import UNMEASURED

from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import plan, read_hosts

HOSTS = [f"edge-{number:02}" for number in range(12)]
WAVES: list[int | str] = [4, 8, "100%"]
BATCHES = [wave.hosts for wave in plan(read_hosts(dict.fromkeys(HOSTS, "small")), WAVES, "plain").waves]
AWAY = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
# Nobody can make a store below a file.
BROKEN = {"rollout_server": {"store": "/dev/null/store", "strategy": "none"}}


def away(*hosts: str) -> dict[str, Mapping[str, Any]]:
    return dict.fromkeys(hosts, AWAY)


def broken(*hosts: str) -> dict[str, Mapping[str, Any]]:
    return dict.fromkeys(hosts, BROKEN)


class Fleet:
    """Twelve devices that hold a release and serve it with nobody to tell; some of them are ``ill``."""

    def __init__(self, directory: Path, ill: Mapping[str, Mapping[str, Any]]) -> None:
        self.directory = directory
        publish(make_release("1.0.0", model="plain", files={"model.bin": b"weights"}), directory / "repository")
        hosts: dict[str, Mapping[str, Any]] = {}
        shell = str(command_shell(directory))
        for name in HOSTS:
            usual = {
                "ansible_connection": "local",
                "ansible_become": False,
                "ansible_shell_executable": shell,
                "ansible_python_interpreter": sys.executable,
                "rollout_server": {"store": str(directory / name), "strategy": "none"},
            }
            hosts[name] = {**usual, **ill.get(name, {})}
            (directory / name).mkdir()
        self.ansible = Ansible(directory, [], **hosts)

    def rollout(self, silence_seconds: int = 3, **limits: Any) -> Run:
        """Roll the release out in three waves of four."""
        return self.ansible.run(
            "edgeml.fleet.rollout",
            model_name="plain",
            model_version="1.0.0",
            model_repository=str(self.directory / "repository"),
            rollout_waves=WAVES,
            rollout_soak_seconds=0,
            rollout_min_ready_seconds=0,
            rollout_trial_seconds=0,
            rollout_device_silence_seconds=silence_seconds,
            rollout_limits={**UNMEASURED, **limits},
            rollout_ledger=str(self.directory / "ledger"),
        )

    def serial(self, **keywords: Any) -> Run:
        """Do the same with a play that counts on Ansible."""
        batches = [{"hosts": batch} for batch in BATCHES]
        task = {
            "edgeml.fleet.model_swap": {
                "model": "plain",
                "version": "1.0.0",
                "repository": str(self.directory / "repository"),
                "store": "{{ rollout_server.store }}",
                "strategy": "none",
                "min_ready_seconds": 0,
                "trial_seconds": 0,
            }
        }
        order = [host for batch in batches for host in batch["hosts"]]
        play = {"hosts": order, "serial": 4, "gather_facts": False, "tasks": [task], **keywords}
        path = self.ansible.directory / "serial.yml"
        path.write_text(json.dumps([play]))
        return self.ansible.run("serial.yml")

    @property
    def reached(self) -> list[int]:
        """How many devices of each batch have the release."""
        return [sum(self._active(name) == "1.0.0" for name in batch) for batch in BATCHES]

    def _active(self, name: str) -> str | None:
        return Store(str(self.directory / name)).state("plain").active


def test_the_batches_are_three_of_four() -> None:
    assert [len(batch) for batch in BATCHES] == [4, 4, 4]


FIRST, SECOND, THIRD = BATCHES


@pytest.mark.parametrize(
    ("ill", "keywords", "theirs", "limits", "ours", "state"),
    [
        # Ansible counts no device that it cannot reach.
        (away(*FIRST[:2]), {"max_fail_percentage": 0}, [2, 4, 4], {"reporting_share_min": 0.75}, [2, 0, 0], "paused"),
        # One that failed and one that is away: the batch stops, the next ones do not.
        ({**broken(FIRST[0]), **away(FIRST[1])}, {"max_fail_percentage": 0}, [2, 4, 4], {}, [0, 0, 0], "failed"),
        ({**broken(FIRST[0]), **away(FIRST[1])}, {"any_errors_fatal": True}, [2, 4, 4], {}, [0, 0, 0], "failed"),
        # One that failed: both stop; only the rollout takes the other three back.
        (broken(FIRST[0]), {"max_fail_percentage": 0}, [3, 0, 0], {}, [0, 0, 0], "failed"),
        # One of each batch fails: Ansible counts each batch by itself.
        (
            broken(FIRST[0], SECOND[0], THIRD[0]),
            {"max_fail_percentage": 30},
            [3, 3, 3],
            {"max_failures": 1},
            [0, 0, 0],
            "failed",
        ),
        # These strategies count nothing.
        (broken(FIRST[0]), {"max_fail_percentage": 0, "strategy": "free"}, [3, 4, 4], {}, [0, 0, 0], "failed"),
        (broken(FIRST[0]), {"max_fail_percentage": 0, "strategy": "host_pinned"}, [3, 4, 4], {}, [0, 0, 0], "failed"),
    ],
    ids=["away", "failed-and-away", "any-errors-fatal", "failed", "each-batch", "free", "host-pinned"],
)
def test_a_rollout_stops_where_ansible_goes_on(
    tmp_path: Path,
    ill: dict[str, Mapping[str, Any]],
    keywords: dict[str, Any],
    theirs: list[int],
    limits: dict[str, Any],
    ours: list[int],
    state: str,
) -> None:
    for part in ("serial", "rollout"):
        (tmp_path / part).mkdir()
    usual = Fleet(tmp_path / "serial", ill)
    usual.serial(**keywords)
    assert usual.reached == theirs, "what Ansible does was measured with another version"
    fleet = Fleet(tmp_path / "rollout", ill)
    run = fleet.rollout(**limits)
    assert run.code == 2, run
    assert fleet.reached == ours, run
    book = json.loads((fleet.directory / "ledger" / "plain-1.0.0-1.json").read_text())
    assert book["state"] == state
    assert run.results("Fetch, verify and swap").keys() >= set(FIRST)


def test_a_control_that_is_away_ends_nothing(tmp_path: Path) -> None:
    """Controls are read by one task of the wave's first device, one after the other."""
    controls = list(plan(read_hosts(dict.fromkeys(HOSTS, "small")), WAVES, "plain").controls[0].values())
    fleet = Fleet(tmp_path, away(controls[0]))
    run = fleet.rollout()
    assert run.code == 0, run
    for task in (
        "Read the devices on the old version that the wave is compared with",
        "Read the devices on the old version again",
    ):
        read = {item["item"]: bool(item.get("unreachable")) for item in run.results(task)[FIRST[0]]["results"]}
        assert read[controls[0]] is True
        assert set(controls) == read.keys()
    assert sum(fleet.reached) == 11
    assert run.custom_stats["rollout_outcomes"] == {"updated": 11, "away": 1}


def test_a_configuration_with_another_strategy_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(tmp_path, broken(FIRST[0]))
    fleet.ansible.configure("strategy = free")
    assert fleet.rollout().code == 2
    assert fleet.reached == [0, 0, 0]


# As ssh, with the device on this machine: every second connection to a host is refused, or is slow to greet.
BAD_LINK = """\
#!/bin/sh
for last; do :; done
case "$last" in */device/shell*) ;; *) exit 0 ;; esac
for word; do case "$word" in edge-*) host=$word ;; esac; done
count=$(cat "$0.$host" 2>/dev/null || echo 0)
echo $((count + 1)) >"$0.$host"
case $((count % 4)) in
0) echo "ssh: connect to host $host port 22: Connection refused" >&2; exit 255 ;;
2) echo "Connection timed out during banner exchange" >&2; exit 255 ;;
esac
exec /bin/sh -c "$last"
"""


def five_by_ssh(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Fleet:
    """The first five devices, which ``script`` reaches in the place of ssh."""
    monkeypatch.setattr(f"{__name__}.HOSTS", HOSTS[:5])
    ssh = directory / "ssh"
    ssh.write_text(script)
    ssh.chmod(0o755)
    link = {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh), "ansible_ssh_retries": 0}
    return Fleet(directory, dict.fromkeys(HOSTS, link))


def test_a_link_that_fails_now_and_then_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = five_by_ssh(tmp_path, monkeypatch, BAD_LINK)
    run = fleet.rollout(silence_seconds=60)
    assert run.code == 0, run
    assert run.custom_stats["rollout_outcomes"] == {"updated": 5}
    failed = sum(int(path.read_text()) for path in tmp_path.glob("ssh.edge-*")) // 2
    assert failed >= 2 * len(HOSTS), "the link of every device failed, in the swap and in the read"


# As ssh, with the device on this machine: once a device has the release, nobody reaches it without a file `back`.
GONE_LINK = """\
#!/bin/sh
for last; do :; done
case "$last" in */device/shell*) ;; *) exit 0 ;; esac
for word; do case "$word" in edge-*) host=$word ;; esac; done
directory=$(dirname "$0")
if [ -e "$directory/$host/models/plain/state.json" ] && [ ! -e "$directory/back" ]; then
    echo "ssh: connect to host $host port 22: No route to host" >&2
    exit 255
fi
exec /bin/sh -c "$last"
"""


def test_devices_that_are_gone_for_good_go_back_when_they_are_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link of a wave is gone beyond its last analysis, and its controls are there: that may be harm."""
    fleet = five_by_ssh(tmp_path, monkeypatch, GONE_LINK)
    run = fleet.rollout(silence_seconds=0)
    assert run.code == 2, run
    book = json.loads((tmp_path / "ledger" / "plain-1.0.0-1.json").read_text())
    gone = book["plan"]["waves"][0]["hosts"]
    assert book["state"] == "failed"
    assert {row["device"] for row in book["devices"] if row["outcome"] == "not reverted"} == set(gone)
    (summary,) = run.results("Fail unless all is well").values()
    still = f"Still on 1.0.0: {', '.join(gone)}. edgeml.fleet.reconcile reverts them when they can be reached"
    assert still in summary["msg"]
    ledger = {"rollout_ledger": str(tmp_path / "ledger"), "model_repository": str(tmp_path / "repository")}
    away = fleet.ansible.run("edgeml.fleet.reconcile", rollout_device_silence_seconds=0, **ledger)
    assert (away.code, away.custom_stats["reconcile_outcomes"]) == (0, {"away": len(gone)}), away
    assert sum(fleet.reached) == len(gone)
    (tmp_path / "back").touch()
    back = fleet.ansible.run("edgeml.fleet.reconcile", **ledger)
    assert back.code == 0, back
    assert fleet.reached == [0, 0, 0]


# Names that are no pattern of themselves.
ODD = ["Hall 3, gateway", "rack1:cam2", "~edge", "!edge-03"]


def test_a_host_of_any_name_is_rolled_out_to_in_its_wave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.HOSTS", [*ODD, *HOSTS[4:]])
    fleet = Fleet(tmp_path, {})
    run = fleet.rollout()
    assert run.code == 0, run
    book = json.loads((tmp_path / "ledger" / "plain-1.0.0-1.json").read_text())
    assert {row["device"]: row["outcome"] for row in book["devices"]} == dict.fromkeys([*ODD, *HOSTS[4:]], "updated")
    for wave in book["plan"]["waves"]:
        played = book["waves"][wave["number"] - 1]["outcomes"]
        assert sorted(played) == sorted(wave["hosts"])
    back = fleet.ansible.run(
        "edgeml.fleet.rollback", rollback_rollout="plain-1.0.0-1", rollout_ledger=str(tmp_path / "ledger")
    )
    assert back.code == 0, back
    assert back.custom_stats["rollback_outcomes"] == {"reverted": 12}


@pytest.mark.parametrize(
    ("playbook", "variable"),
    [
        ("rollout", "rollout_hosts"),
        ("reconcile", "rollout_hosts"),
        ("rollback", "rollback_hosts"),
        ("status", "status_hosts"),
        ("provision", "provision_hosts"),
        ("container_runtime", "container_runtime_hosts"),
        ("site_cache", "site_cache_hosts"),
        ("pull_agent", "pull_agent_hosts"),
        ("profile", "profile_hosts"),
    ],
)
def test_a_group_without_hosts_is_an_error(tmp_path: Path, playbook: str, variable: str) -> None:
    fleet = Fleet(tmp_path, {})
    run = fleet.ansible.run(f"edgeml.fleet.{playbook}", **{variable: "egde"})
    assert run.code == 2, run
    problem = run.custom_stats[f"{playbook}_problem"]
    assert problem.replace("'", "") == f"{variable}: no host of the inventory matches egde; its groups are: edge"
    assert repr(run).count(problem) == 1, "it is printed once"
    assert run.custom_stats.get("rollout_verdict") == ("refused" if playbook == "rollout" else None)


@pytest.mark.parametrize("playbook", ["rollout", "reconcile", "rollback", "status"])
def test_a_limit_that_leaves_no_device_is_an_error(tmp_path: Path, playbook: str) -> None:
    """Ansible skips each play then, and ends well: who goes back at night would believe that it was done."""
    fleet = Fleet(tmp_path, {})
    path = fleet.ansible.directory / "hosts.json"
    inventory = json.loads(path.read_text())
    inventory["all"]["children"]["watchers"] = {"hosts": {"watcher": away("watcher")["watcher"]}}
    path.write_text(json.dumps(inventory))
    # Of a file, as Ansible writes one for who tries again, or by name.
    (tmp_path / "run.retry").write_text("watchers\n")
    limit = "watchers" if playbook in ("rollout", "status") else f"@{tmp_path / 'run.retry'}"
    run = fleet.ansible.run(f"edgeml.fleet.{playbook}", "--limit", limit, model_name="plain", model_version="1.0.0")
    assert run.code == 2, run
    variable = "rollout_hosts" if playbook in ("rollout", "reconcile") else f"{playbook}_hosts"
    problem = run.custom_stats[f"{playbook}_problem"]
    assert problem == f"{variable}: --limit leaves none of its hosts, which are {', '.join(HOSTS[:10])} and 2 more"
    # A part of a playbook, by tags, is none.
    if playbook == "status":
        shown = fleet.ansible.run("edgeml.fleet.status", "--limit", HOSTS[0], "--tags", "table")
        assert len(shown.results("Show the models")) == 1, shown


@pytest.mark.parametrize(("left", "is_error"), [(HOSTS[1], False), (HOSTS[0], True)])
def test_a_play_of_this_machine_knows_which_devices_a_limit_leaves(tmp_path: Path, left: str, is_error: bool) -> None:
    """Which devices are measured is checked in a play of localhost, that the limit has to name as well."""
    (tmp_path / "limit").write_text(f"{left}\nlocalhost\n")
    run = Fleet(tmp_path, {}).ansible.run(
        "edgeml.fleet.profile", "--limit", f"@{tmp_path / 'limit'}", profile_hosts=HOSTS[1], model_name="plain"
    )
    assert run.code == 2, run
    problem = run.custom_stats.get("profile_problem", "")
    assert problem == (f"profile_hosts: --limit leaves none of its hosts, which are {HOSTS[1]}" if is_error else "")
    # The next thing that the playbook needs, and was not given here.
    assert ("profile_key: not set" in repr(run)) is not is_error


def test_the_status_is_whole_also_with_another_strategy_and_another_store(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {})
    assert fleet.rollout().code == 0
    fleet.ansible.configure("strategy = free")
    (shown,) = fleet.ansible.run("edgeml.fleet.status").results("Show the models").values()
    rows = [line.split() for line in shown["msg"][1:]]
    active = shown["msg"][0].split().index("active") + 1
    assert {row[0]: row[active] for row in rows} == dict.fromkeys(HOSTS, "1.0.0"), shown["msg"]


def test_a_part_of_a_playbook_says_that_it_is_none(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {})
    with fleet.ansible.start("edgeml.fleet.rollback", "--skip-tags", "check,always") as skipped:
        said = "".join(skipped.communicate())
    assert "--skip-tags always leaves out" in said
    assert skipped.returncode != 0
    run = fleet.ansible.run("edgeml.fleet.rollout", "--start-at-task", "Begin the wave")
    assert run.code == 2, run
    assert "this run has no plan" in repr(run)
    assert fleet.reached == [0, 0, 0]
    status = fleet.ansible.run("edgeml.fleet.status", "--start-at-task", "Show the models")
    assert status.code == 2, status
    assert "no device was read, and the page would have all of them away" in repr(status)
    assert list(fleet.ansible.directory.rglob("fleet.html")) == []


def test_a_device_is_away_whose_ssh_closes_its_input_before_it_ends(tmp_path: Path) -> None:
    """As it does on a busy controller: Ansible then has nothing of what ssh says, but a pipe that broke."""
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec <&-\nsleep 2\necho 'ssh: connect to host edge: No route to host' >&2\nexit 255\n")
    ssh.chmod(0o755)
    # More than a pipe holds, so that what is sent waits for somebody who reads it.
    files = {f"weights-{number:0100}.bin": b"weights" for number in range(600)}
    publish(make_release("1.0.0", model="plain", files=files), tmp_path / "repository")
    ansible = Ansible(
        tmp_path, [], edge={**AWAY, "ansible_ssh_executable": str(ssh), "ansible_python_interpreter": "python3"}
    )
    swap = {"model": "plain", "version": "1.0.0", "repository": str(tmp_path / "repository")}
    task = {"name": "Swap", "edgeml.fleet.model_swap": swap, "ignore_unreachable": True}
    (ansible.directory / "swap.yml").write_text(json.dumps([{"hosts": "edge", "gather_facts": False, "tasks": [task]}]))
    result = ansible.run("swap.yml").results("Swap")["edge"]
    assert "Broken pipe" in result["msg"], "this is about another case"
    assert (result["unreachable"], result["started"]) == (True, False)
