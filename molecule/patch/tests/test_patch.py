# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet is patched by real snapshots of a real archive, made by reprepro: one story, told by tests in their order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from containers import ContainerController, Containers, docker, wait_for, wait_for_soak
from debian_packages import SUITE, make_package
from links import PYTHON_PATH, REPOSITORY

NAMES = os.environ.get("FLEET", "quickstart")
DEVICES = ["edge-s1", "edge-s2", "edge-l1", "edge-l2"]
FLEET = Containers(DEVICES, NAMES)
INVENTORIES = [REPOSITORY / "inventories" / NAMES / "hosts.yml", REPOSITORY / "molecule/patch/inventory/hosts.yml"]
MODEL = f"debian-{SUITE}"
TOOL, BASE, AGENT = "fleet-tool", "fleet-base", "fleet-agent"
INFERENCE = "edgeml-inference.service"
# Holds the interpreter's lock most of the time, and takes no processor time.
HOG = """
import ctypes, threading, time
libc = ctypes.PyDLL(None)
def hold():
    while True:
        libc.usleep(60000)
        time.sleep(0.001)
threading.Thread(target=hold, daemon=True).start()
"""
DROP_IN = f"/etc/systemd/system/{INFERENCE}.d/{TOOL}.conf"
SLOW = {
    "postinst": f"""
path=$(systemctl show --property=Environment --value {INFERENCE} | tr ' ' '\\n' | sed -n 's/^PYTHONPATH=//p')
mkdir -p $(dirname {DROP_IN})
printf '[Service]\\nEnvironment=PYTHONPATH=/usr/lib/{TOOL}:%s\\n' "$path" >{DROP_IN}
systemctl daemon-reload
systemctl restart {INFERENCE}
""",
    "prerm": f"rm -f {DROP_IN}; systemctl daemon-reload; systemctl restart {INFERENCE}",
}
# A service that runs for ever, and one of which no version starts.
RUNS, ENDS = "import time\nwhile True:\n    time.sleep(1)\n", "raise SystemExit('no such sensor')\n"
UNIT = f"[Service]\nExecStart=/usr/bin/python3 /usr/lib/{AGENT}/run.py\n[Install]\nWantedBy=multi-user.target\n"
ENABLE = f"systemctl daemon-reload; systemctl enable --now {AGENT}.service"


class Desk:
    """The archive of the fleet, and the repository that its snapshots are published in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # The packages as the devices have them, by name.
        self.good: dict[str, Path] = {}
        self.repository = directory / "repository"
        self._archive = directory / "archive"
        (self._archive / "conf").mkdir(parents=True)
        (self._archive / "conf/distributions").write_text(
            f"Codename: {SUITE}\nArchitectures: amd64 arm64\nComponents: main\nDescription: the fleet's packages\n"
        )

    def package(self, name: str, version: str, **options: Any) -> Path:
        """Build a package."""
        return make_package(self._directory, name, version, **options)

    def agent(self, version: str, program: str = RUNS, **scripts: str) -> Path:
        """Build the package of a service, whose scripts do not restart it."""
        files = {f"usr/lib/{AGENT}/run.py": program, f"lib/systemd/system/{AGENT}.service": UNIT}
        return self.package(AGENT, version, files=files, scripts=scripts)

    def reprepro(self, *arguments: str) -> str:
        """Run reprepro on the archive."""
        command = ["reprepro", "--silent", "--basedir", str(self._archive), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def freeze(self, version: str, *packages: Path) -> dict[str, Any]:
        """Make a snapshot of these packages, and of the others as they are on the devices. Returns what the publication
        says."""
        for name, path in {**self.good, **{path.name.split("_")[0]: path for path in packages}}.items():
            # reprepro skips a version that is lower than what it has, with exit code 0.
            self.reprepro("remove", SUITE, name)
            self.reprepro("--section", "misc", "--priority", "optional", "includedeb", SUITE, str(path))
        self.reprepro("gensnapshot", SUITE, version)
        return self.publish(version, f"{SUITE}/snapshots/{version}")

    def publish(self, version: str, distribution: str) -> dict[str, Any]:
        """Publish a distribution of the archive."""
        machine = subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()
        command = [str(REPOSITORY / "bin/edgeml-publish"), "packages", "--json"]
        command += ["--archive", str(self._archive), "--distribution", distribution, "--version", version]
        command += ["--repository", str(self.repository)]
        command += ["--architectures", machine if NAMES == "native" else "aarch64"]
        environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(PYTHON_PATH)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """An archive whose first packages are installed on all devices."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    first = [desk.package(TOOL, "1.0"), desk.package(BASE, "1.0"), desk.agent("1.0", postinst=ENABLE)]
    desk.good = dict(zip((TOOL, BASE, AGENT), first, strict=True))
    for device in DEVICES:
        for package in first:
            docker("cp", str(package), f"{FLEET.container(device)}:/var/tmp/")
        FLEET.on(device, "dpkg --install /var/tmp/*.deb")
    desk.freeze("1.0", *first)
    return desk


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> ContainerController:
    usual = {
        "model_repository": str(desk.repository),
        "rollout_waves": ["25%", "100%"],
        "rollout_soak_seconds": 10,
        "rollout_soak_seconds_max": 10,
        "rollout_device_silence_seconds": 90,
        # The gate judges here, and no device by itself.
        "rollout_limits": {"latency_ratio_max": 10},
        "rollout_trial_limits": {"latency_ratio_max": 1000},
    }
    return ContainerController(tmp_path_factory.mktemp("controller"), INVENTORIES, usual)


@contextmanager
def traffic() -> Iterator[None]:
    """Requests to all devices."""
    ports = {"edge-s1": 1, "edge-s2": 2, "edge-l1": 3, "edge-l2": 4}
    base = 8110 if NAMES == "native" else 8100
    targets = [f"{name}=127.0.0.1:{base + number}" for name, number in ports.items()]
    command = [sys.executable, str(REPOSITORY / "examples/digits/traffic.py"), "--rate", "10", *targets]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def patch(controller: ContainerController, version: str, **variables: Any) -> int:
    """Roll a snapshot out. Returns the exit code."""
    return controller.run("edgeml.fleet.patch", patch_version=version, **variables).returncode


def installed(package: str) -> dict[str, str]:
    """The version of a package on each device."""
    show = f"dpkg-query --show --showformat='${{Version}}' {package}"
    return {device: FLEET.on(device, show) for device in DEVICES}


def live(device: str) -> str | None:
    """The snapshot of a device, by its own word."""
    models = json.loads(FLEET.on(device, "edgeml status --json"))["models"]
    found = [model["live"] for model in models if model["name"] == MODEL]
    return found[0] if found else None


def agents() -> dict[str, str]:
    """The process of the service on each device; 0 where it does not run."""
    show = f"systemctl show --property=MainPID --value {AGENT}.service"
    return {device: FLEET.on(device, show).strip() for device in DEVICES}


def canaries(controller: ContainerController, version: str) -> list[str]:
    """The devices of the first wave."""
    return sorted(controller.ledger(version, MODEL)["plan"]["waves"][0]["hosts"], key=DEVICES.index)


def test_the_first_snapshot_changes_no_package(controller: ContainerController) -> None:
    with traffic():
        assert patch(controller, "1.0") == 0
    assert {live(device) for device in DEVICES} == {"1.0"}
    assert set(installed(TOOL).values()) == {"1.0"}
    again = controller.run("edgeml.fleet.patch", patch_version="1.0")
    assert "changed=0" in again.stdout


def test_a_snapshot_is_rolled_out_to_all(controller: ContainerController, desk: Desk) -> None:
    desk.good[BASE], desk.good[AGENT] = desk.package(BASE, "1.1"), desk.agent("1.1")
    published = desk.freeze("1.1")
    assert published["snapshots"][0]["packages"] == 3
    before = agents()
    with traffic():
        assert patch(controller, "1.1", rollout_waves=["100%"], rollout_max_unavailable=1) == 0
    assert set(installed(BASE).values()) == {"1.1"}
    assert {live(device) for device in DEVICES} == {"1.1"}
    # Two classes of two devices each: no two of a class are patched, and so restarted, at once.
    waves = [set(wave["hosts"]) for wave in controller.ledger("1.1", MODEL)["plan"]["waves"]]
    assert [sorted(name[:6] for name in wave) for wave in waves] == [["edge-l", "edge-s"]] * 2
    after = agents()
    assert "0" not in before.values()
    assert "0" not in after.values()
    # needrestart had it restarted, and has nothing left to say of it.
    assert [device for device in DEVICES if after[device] == before[device]] == []
    assert {device for device in DEVICES if AGENT in FLEET.on(device, "needrestart -b -l")} == set()


def test_a_service_that_does_not_start_leaves_the_snapshot_before(controller: ContainerController, desk: Desk) -> None:
    desk.freeze("1.1.1", desk.agent("1.1.1", ENDS))
    with traffic():
        assert patch(controller, "1.1.1") == 2
    assert set(controller.outcomes("1.1.1", MODEL).values()) == {"failed", "not started"}
    found = json.dumps(controller.ledger("1.1.1", MODEL)["devices"])
    assert f"units failed with these packages: {AGENT}.service" in found
    assert set(installed(AGENT).values()) == {"1.1"}
    assert "0" not in agents().values()
    assert [device for device in DEVICES if AGENT in FLEET.on(device, "systemctl list-units --failed")] == []


def test_a_snapshot_that_makes_the_server_slower_stops_at_the_canaries(
    controller: ContainerController, desk: Desk
) -> None:
    desk.freeze("1.2", desk.package(TOOL, "1.2", files={f"usr/lib/{TOOL}/sitecustomize.py": HOG}, scripts=SLOW))
    with traffic():
        assert patch(controller, "1.2") == 2
    assert controller.failed_checks("1.2", MODEL) & {"latency p50", "latency p95"}
    outcomes = controller.outcomes("1.2", MODEL)
    assert [name for name in DEVICES if outcomes[name] == "reverted"] == canaries(controller, "1.2")
    assert set(outcomes.values()) == {"reverted", "not started"}
    assert set(installed(TOOL).values()) == {"1.0"}
    assert {live(device) for device in DEVICES} == {"1.1"}


def test_a_full_disk_in_the_middle_of_dpkg_leaves_the_snapshot_before(
    controller: ContainerController, desk: Desk
) -> None:
    for device in DEVICES:
        FLEET.on(device, "mkdir -p /opt/full && mount -t tmpfs -o size=64k tmpfs /opt/full")
    desk.freeze("1.3", desk.package(BASE, "1.3", files={"opt/full/data": "x" * (1 << 20)}))
    assert patch(controller, "1.3") == 2
    assert set(controller.outcomes("1.3", MODEL).values()) == {"failed", "not started"}
    assert "did not become healthy: apt-get install" in json.dumps(controller.ledger("1.3", MODEL)["devices"])
    assert set(installed(BASE).values()) == {"1.1"}
    assert {FLEET.on(device, "dpkg --audit") for device in DEVICES} == {""}


@pytest.mark.parametrize(("script", "version"), [("preinst", "1.4"), ("postinst", "1.5")])
def test_a_power_cut_in_the_middle_of_dpkg_is_recovered_at_the_next_boot(
    controller: ContainerController, desk: Desk, script: str, version: str
) -> None:
    """The device goes back to the snapshot before; the rollout asks again, and then nothing is in the way."""
    marker = f"/var/tmp/in-dpkg-{version}"
    waits = f"test -e {marker} || {{ touch {marker}; sync; sleep 600; }}"
    desk.good[BASE] = desk.package(BASE, version, scripts={script: waits})
    desk.freeze(version)

    def in_dpkg() -> list[str]:
        return [name for name in DEVICES if FLEET.on(name, f"test -e {marker} && echo yes || true").strip()]

    with traffic():
        process = controller.start("edgeml.fleet.patch", patch_version=version)
        wait_for(lambda: bool(in_dpkg()) and in_dpkg() == canaries(controller, version), f"dpkg runs the {script}")
        cut = in_dpkg()
        # The others have no such cut.
        for device in set(DEVICES) - set(cut):
            FLEET.on(device, f"touch {marker}")
        for device in cut:
            docker("kill", FLEET.container(device))
        for device in cut:
            docker("start", FLEET.container(device))
        assert controller.finish(process).returncode == 0
    for device in cut:
        assert FLEET.on(device, "dpkg --audit") == ""
        assert "interrupted" in FLEET.on(device, f"edgeml history {MODEL}")
    assert set(installed(BASE).values()) == {version}
    assert {live(device) for device in DEVICES} == {version}


def test_a_device_that_does_not_come_back_stops_the_rollout(controller: ContainerController, desk: Desk) -> None:
    desk.freeze("1.6", desk.package(BASE, "1.6"))
    process = controller.start("edgeml.fleet.patch", patch_version="1.6")
    wait_for_soak(process, wave=1)
    plan = json.loads((controller.directory / f"ledger/{MODEL}-1.6-1.json").read_text())
    lost = min(plan["plan"]["waves"][0]["hosts"])
    docker("kill", FLEET.container(lost))
    assert controller.finish(process).returncode == 2
    outcomes = controller.outcomes("1.6", MODEL)
    assert outcomes[lost] in ("silent", "not reverted")
    assert all(outcomes[device] in ("not started", "reverted") for device in DEVICES if device != lost)
    docker("start", FLEET.container(lost))
    wait_for(lambda: live(lost) is not None, f"{lost} is back")
    assert controller.run("edgeml.fleet.reconcile").returncode == 0
    assert {live(device) for device in DEVICES} == {"1.5"}
    assert set(installed(BASE).values()) == {"1.5"}


def test_a_name_that_is_taken_is_refused_and_the_digest_tells(desk: Desk) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        desk.publish("1.1", SUITE)
    assert "published with other content" in refused.value.stderr


def test_the_report_says_what_is_vulnerable_on_the_devices(controller: ContainerController, tmp_path: Path) -> None:
    issue = {"releases": {SUITE: {"status": "resolved", "fixed_version": "2.0", "urgency": "high"}}}
    (tmp_path / "tracker.json").write_text(json.dumps({BASE: {"CVE-2030-0001": issue}}))
    variables = {
        "vulnerabilities_tracker": str(tmp_path / "tracker.json"),
        "vulnerabilities_directory": str(tmp_path / "report"),
    }
    assert controller.run("edgeml.fleet.vulnerabilities", **variables).returncode == 0
    document = json.loads((tmp_path / "report/vulnerabilities.json").read_text())
    (found,) = document["findings"]
    assert (found["id"], found["state"], found["roots"]) == ("CVE-2030-0001", "fixable", sorted(DEVICES))
    assert found["purls"] == [f"pkg:deb/debian/{BASE}@1.5?arch=all&distro={SUITE}&upstream={BASE}%401.5"]
    assert document["unjudged"] == {}
