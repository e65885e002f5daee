# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service in containers of Podman and Docker on a kernel for ARM, and its pod of K3s, played by Podman."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from arm_machine import NAME as MACHINE
from arm_machine import ArmMachine
from image_device import NAME as IMAGE
from image_parts import with_entrypoint, with_layer
from kubernetes_manifest import rendered
from load import OK, Load
from machine_controller import SERVICE, MachineController
from machine_model import ACTIVATE, NEW, OLD, REQUESTS_PER_SECOND, request, serving, versions

from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import write_archive
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.build import BuiltImage, build_images
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.layer import Entry
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.release import publish_images

CACHE = Path("~/.cache/edgeml-fleet/image").expanduser()
INFER = "/v2/models/digits/infer"
SERVICE_CONTAINER, BRIDGE = "edgeml-inference", "edgeml-inference-bridge"
GOOD, BAD = "1.1.0", "1.2.0"
PYTHON = "/opt/edgeml/venv/bin/python"
# The server's tools run in it as they should, and the server ends at once.
END = """
import os, sys
command = sys.argv[1:]
if not any("edgeml_server.tools." in word for word in command):
    sys.exit(3)
os.execv(command[0], command)
"""
NEVER_STARTS = (PYTHON, "-c", END)
# What a container's process tries, by its path: the error's name, or "allowed".
ATTEMPTS = {
    "/var/lib/edgeml/store/probe": "EROFS",
    "/etc/edgeml/probe": "EROFS",
    "/usr/probe": "EROFS",
    "/tmp/probe": "allowed",
    "/run/edgeml/probe": "allowed",
    "/var/lib/edgeml-inference/probe": "allowed",
}
ATTEMPT = """
import errno, json, sys
found = {}
for path in sys.argv[1:]:
    try:
        open(path, "w").close()
        found[path] = "allowed"
    except OSError as error:
        found[path] = errno.errorcode[error.errno]
print(json.dumps(found))
"""


class Images(NamedTuple):
    """Images for ARM: an archive for the role, and a repository with releases of a good one and a bad one."""

    archive: Path
    repository: Path
    references: dict[str, str]


class Contained(NamedTuple):
    """A machine whose service runs in a container of ``engine``."""

    engine: str
    machine: ArmMachine
    controller: MachineController
    images: Images

    def play_role(self, *options: str) -> int:
        """Run the roles for this runner. Returns how many tasks changed something."""
        roles = [
            {"role": "edgeml.fleet.container_runtime", "container_runtime_engine": self.engine},
            {"role": "edgeml.fleet.inference_service"},
        ]
        values: dict[str, Any] = {
            "inference_service_runner": self.engine,
            "inference_service_image": str(self.images.archive),
        }
        return self.controller.play({"roles": roles}, *options, **values).stats[MACHINE]["changed"]

    def inspect(self, template: str, container: str = SERVICE_CONTAINER) -> str:
        """What the engine says of a container."""
        return self.machine.shell(f"{self.engine} inspect --format '{{{{{template}}}}}' {container}").stdout.strip()

    def swap(self, code: int = 0, **options: Any) -> str:
        """Have the device swap its image. Returns the message of a swap that failed."""
        request = {
            "model": IMAGE,
            "repository": str(self.images.repository),
            "trial_seconds": 0,
            "min_ready_seconds": 0,
        }
        run = self.controller.tasks({"name": "Swap", "edgeml.fleet.model_swap": {**request, **options}}, code=code)
        return str(run.results("Swap")[MACHINE].get("msg", ""))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Images built from Debian's packages and the locked wheels."""
    directory = tmp_path_factory.mktemp("images")
    CACHE.mkdir(parents=True, exist_ok=True)
    (first,) = build_images(
        ["aarch64"], version="1.0.0", runtimes=["onnxruntime"], directory=str(directory), cache=str(CACHE)
    )
    with (directory / "image.tar").open("wb") as archive:
        write_archive(archive, first.image, first.layer_path)
    files = {"opt/edgeml/app/edgeml_server/_newer.py": Entry(0o644, b"")}
    good = with_layer(first, directory, "newer", files)
    releases = {GOOD: good, BAD: with_entrypoint(good, NEVER_STARTS)}
    for version, built in releases.items():
        _publish(built, version, directory)
    references = {version: built.image.reference for version, built in {"1.0.0": first, **releases}.items()}
    return Images(directory / "image.tar", directory / "repository", references)


def _publish(built: BuiltImage, version: str, directory: Path) -> None:
    place = directory / f"files-{version}"
    (place / built.machine).mkdir(parents=True)
    repository = str(directory / "repository")
    publish_images([built], name=IMAGE, version=version, repository=repository, directory=str(place), created=None)


@pytest.fixture(scope="module", params=["podman", "docker"])
def contained(
    request: pytest.FixtureRequest,
    base: Path,
    prepared: Path,
    images: Images,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Contained]:
    """A machine on which the role switched from the native service to a container, with the models that it held."""
    directory = tmp_path_factory.mktemp(request.param)
    with ArmMachine(base, directory / "machine", prepared) as machine:
        contained = Contained(request.param, machine, MachineController(directory / "ansible", machine), images)
        assert contained.play_role() > 0
        yield contained


def load(contained: Contained, directory: Path) -> Load:
    """Requests of a model to the machine's server."""
    return Load(directory, contained.machine.port, INFER, request(), REQUESTS_PER_SECOND)


def lost(load: Load) -> list[Any]:
    """The requests without a good answer."""
    return [sent for sent in load.requests if sent.status != OK]


def test_the_switch_of_the_runner_loses_no_model_and_is_idempotent(contained: Contained) -> None:
    assert serving(contained.machine) == (OLD, OLD)
    assert contained.inspect(".Config.Image") == contained.images.references["1.0.0"]
    assert contained.machine.shell("ls /opt/edgeml | grep ^venv- || true").stdout == ""
    before = contained.inspect(".Id")
    assert contained.play_role() == 0
    assert contained.inspect(".Id") == before


def test_the_container_is_confined_by_the_kernel(contained: Contained) -> None:
    process = contained.inspect(".State.Pid")
    status = dict(
        line.split(":\t", 1) for line in contained.machine.shell(f"cat /proc/{process}/status").stdout.splitlines()
    )
    user = contained.machine.shell("id -u edgeml").stdout.strip()
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert (status["Seccomp"], status["Uid"].split()) == ("2", [user] * 4)
    group = contained.machine.shell(f"sed 's/^0:://' /proc/{process}/cgroup").stdout.strip()
    limit = contained.machine.shell(
        f"group=/sys/fs/cgroup{group}; until [ $(cat $group/memory.max) != max ]; do group=$(dirname $group); done;"
        " cat $group/memory.max"
    )
    assert int(limit.stdout) == 512 << 20
    attempt = f"{contained.engine} exec -i {SERVICE_CONTAINER} {PYTHON} - {' '.join(ATTEMPTS)}"
    assert json.loads(contained.machine.shell(attempt, stdin=ATTEMPT).stdout) == ATTEMPTS


def test_a_model_swaps_inside_the_running_container(contained: Contained, tmp_path: Path) -> None:
    before = contained.inspect(".Id")
    with load(contained, tmp_path) as sent:
        contained.machine.shell(ACTIVATE.format(NEW))
        contained.machine.shell(ACTIVATE.format(OLD))
    assert lost(sent) == []
    assert versions(sent) == {OLD, NEW}
    assert contained.inspect(".Id") == before


def test_a_container_that_is_killed_is_started_again(contained: Contained) -> None:
    before = contained.inspect(".Id")
    contained.machine.shell(f"{contained.engine} kill {SERVICE_CONTAINER}")
    _wait_for_another(contained, before)
    assert serving(contained.machine) == (OLD, OLD)


def test_a_server_that_hangs_is_ended_by_the_watchdog_through_the_relay(contained: Contained) -> None:
    before = contained.inspect(".Id")
    contained.machine.shell(f"kill -STOP {contained.inspect('.State.Pid')}")
    _wait_for_another(contained, before)
    assert serving(contained.machine) == (OLD, OLD)
    journal = contained.machine.shell("journalctl --unit=edgeml-inference --output=cat --boot").stdout
    assert "Watchdog timeout" in journal


def test_images_are_swapped_and_reverted_and_no_request_is_lost(contained: Contained, tmp_path: Path) -> None:
    references = contained.images.references
    with load(contained, tmp_path) as sent:
        contained.swap(version=GOOD)
        assert contained.inspect(".Config.Image") == references[GOOD]
        assert contained.play_role() == 0, "a run of the role undoes no rollout"
        assert contained.inspect(".Config.Image") == references[GOOD]
        message = contained.swap(code=2, version=BAD)
        assert f"{BAD} did not become healthy: a container of the new image did not become ready" in message
        assert message.endswith(f"Live now: {GOOD}")
        assert contained.inspect(".Config.Image") == references[GOOD]
        contained.swap(version=GOOD, state="previous")
    assert lost(sent) == []
    assert contained.inspect(".Config.Image") == references["1.0.0"]
    assert serving(contained.machine) == (OLD, OLD)


def test_a_swap_of_the_image_that_is_killed_is_put_right_by_the_device(contained: Contained, tmp_path: Path) -> None:
    """Whoever swapped is gone when a container of the new image has begun."""
    machine = contained.machine
    with load(contained, tmp_path) as sent:
        swap = machine.start(f"edgeml activate {IMAGE} {GOOD} --trial-seconds 0 --min-ready-seconds 0")
        machine.wait_until(_runs(contained, BRIDGE))
        machine.shell(
            "kill -KILL $(pgrep --full 'edgeml activate' | grep --invert-match --line-regexp $$)", check=False
        )
        swap.communicate()
        machine.shell("edgeml watch")
        machine.wait_until(f"! {_runs(contained, BRIDGE)}")
    assert lost(sent) == []
    assert contained.inspect(".Config.Image") == contained.images.references["1.0.0"]
    assert serving(machine) == (OLD, OLD)


@pytest.mark.parametrize("swapped", [IMAGE, "digits"])
def test_after_a_power_cut_in_a_swap_the_container_serves_again(contained: Contained, swapped: str) -> None:
    machine = contained.machine
    machine.shell("sync")
    if swapped == IMAGE:
        swap = machine.start(f"edgeml activate {IMAGE} {GOOD} --trial-seconds 0 --min-ready-seconds 0")
        machine.wait_until(_runs(contained, BRIDGE))
    else:
        swap = machine.start(ACTIVATE.format(NEW))
        machine.wait_until("grep --quiet -e switching -e 1.2.0..trial /var/lib/edgeml/store/models/digits/state.json")
    machine.cut_power()
    swap.communicate()
    machine.boot()
    live, active = serving(machine)
    assert live == active
    assert active in ((OLD,) if swapped == IMAGE else (OLD, NEW))
    (state,) = [
        model for model in json.loads(machine.shell("edgeml status --json").stdout)["models"] if model["name"] == IMAGE
    ]
    reference = contained.images.references[state["active"] or "1.0.0"]
    assert contained.inspect(".Config.Image") == reference
    machine.shell("edgeml verify")
    if active == NEW:
        machine.shell(ACTIVATE.format(OLD))


# Docker plays no pods.
@pytest.mark.parametrize("contained", ["podman"], indirect=True)
def test_the_pod_of_k3s_serves_and_swaps(contained: Contained, tmp_path: Path) -> None:
    """By `podman kube play`: no server of Kubernetes is to be had."""
    machine = contained.machine
    unit, manifest = rendered(tmp_path / "role", **SERVICE)
    machine.shell("systemctl stop edgeml-inference; install -d -o edgeml -g edgeml -m 0750 /run/edgeml")
    machine.shell("cat >/etc/edgeml/kubernetes.yaml", stdin=manifest)
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=/bin/sh")]
    service = f"[Service]\nType=oneshot\nEnvironmentFile=/run/edgeml-container.env\n{line}\n"
    machine.shell("cat >/run/systemd/system/fill-manifest.service", stdin=service)
    machine.shell("systemctl daemon-reload; edgeml container-environment; systemctl start fill-manifest")
    machine.shell("podman kube play --network=host /run/edgeml-kubernetes.yaml")
    machine.wait_until(
        "edgeml status --json | python3 -c 'import json, sys; sys.exit(not [1 for model in "
        'json.load(sys.stdin)["models"] if model["live"] == "1.1.0"])\''
    )
    with load(contained, tmp_path) as sent:
        machine.shell(ACTIVATE.format(NEW))
    assert lost(sent) == []
    assert versions(sent) == {OLD, NEW}


def _runs(contained: Contained, container: str) -> str:
    """A condition: the engine runs that container."""
    return f"{contained.engine} ps --filter name={container} --format '{{{{.Names}}}}' | grep --quiet {container}"


def _wait_for_another(contained: Contained, before: str) -> None:
    found = f"$({contained.engine} inspect --format '{{{{.Id}}}}' {SERVICE_CONTAINER} 2>/dev/null)"
    contained.machine.wait_until(f'[ -n "{found}" ] && [ "{found}" != {before} ]')
    contained.machine.wait_until("systemctl --quiet is-active edgeml-inference")
