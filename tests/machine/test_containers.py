# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service in containers of Podman and Docker on a whole machine, and its pod of K3s, played by Podman."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from image_device import NAME as IMAGE
from kubernetes_manifest import rendered
from load import OK, Load
from machine_controller import SERVICE, MachineController
from machine_images import BAD, BRIDGE, FIRST, GOOD, PYTHON, SERVICE_CONTAINER, Contained, MachineImages, prepared_with
from machine_model import ACTIVATE, NEW, OLD, REQUESTS_PER_SECOND, TRY, on_trial, request, serving, versions
from whole_machine import WholeMachine

INFER = "/v2/models/digits/infer"
FILLED = "/run/edgeml-kubernetes.yaml"
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


@pytest.fixture(scope="module", params=["podman", "docker"])
def contained(
    request: pytest.FixtureRequest,
    base: Path,
    prepared: Path,
    images: MachineImages,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Contained]:
    """A machine on which the role switched from the native service to a container, with the models that it held."""
    saved = prepared_with(request.param, base, prepared, images, tmp_path_factory)
    directory = tmp_path_factory.mktemp(request.param)
    with WholeMachine(base, directory / "machine", saved) as machine:
        yield Contained(request.param, machine, MachineController(directory / "ansible", machine), images)


def load(contained: Contained, directory: Path) -> Load:
    """Requests of a model to the machine's server."""
    return Load(directory, contained.machine.port, INFER, request(), REQUESTS_PER_SECOND)


def lost(load: Load) -> list[Any]:
    """The requests without a good answer."""
    return [sent for sent in load.requests if sent.status != OK]


def test_the_switch_of_the_runner_loses_no_model_and_is_idempotent(contained: Contained) -> None:
    assert serving(contained.machine) == (OLD, OLD)
    assert contained.inspect(".Config.Image") == contained.images.references[FIRST]
    assert contained.machine.shell("ls /opt/edgeml | grep ^venv- || true").stdout == ""
    before = contained.inspect(".Id")
    assert contained.changes() == 0
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
    """One crash ends no trial, and the service was not given up."""
    contained.machine.shell(TRY.format(NEW))
    before = contained.inspect(".Id")
    contained.machine.shell(f"{contained.engine} kill {SERVICE_CONTAINER}")
    _wait_for_another(contained, before)
    assert serving(contained.machine) == (NEW, NEW)
    assert on_trial(contained.machine)
    contained.machine.shell(ACTIVATE.format(OLD))


def test_a_server_that_hangs_is_ended_by_the_watchdog_through_the_relay(contained: Contained) -> None:
    before = contained.inspect(".Id")
    contained.machine.shell(f"kill -STOP {contained.inspect('.State.Pid')}")
    _wait_for_another(contained, before)
    assert serving(contained.machine) == (OLD, OLD)
    journal = contained.machine.shell("journalctl --unit=edgeml-inference --output=cat --boot").stdout
    assert "Watchdog timeout" in journal


def test_who_stops_the_service_reverts_no_trial(contained: Contained) -> None:
    machine = contained.machine
    machine.shell(TRY.format(NEW))
    machine.shell("systemctl stop edgeml-inference")
    result = machine.shell("systemctl show --property=ActiveState,Result edgeml-inference").stdout.split()
    assert set(result) == {"ActiveState=inactive", "Result=success"}
    machine.shell("systemctl start edgeml-inference")
    assert serving(machine) == (NEW, NEW)
    assert on_trial(machine)
    machine.shell(ACTIVATE.format(OLD))


def test_images_are_swapped_and_reverted_and_no_request_is_lost(contained: Contained, tmp_path: Path) -> None:
    references = contained.images.references
    with load(contained, tmp_path) as sent:
        contained.swap(version=GOOD)
        assert contained.inspect(".Config.Image") == references[GOOD]
        assert contained.changes() == 0, "a run of the role undoes no rollout"
        assert contained.inspect(".Config.Image") == references[GOOD]
        message = contained.swap(code=2, version=BAD)
        assert f"{BAD} did not become healthy: a container of the new image did not become ready" in message
        assert message.endswith(f"Live now: {GOOD}")
        assert contained.inspect(".Config.Image") == references[GOOD]
        contained.swap(version=GOOD, state="previous")
    assert lost(sent) == []
    assert contained.inspect(".Config.Image") == references[FIRST]
    assert serving(contained.machine) == (OLD, OLD)


def test_whoever_looks_at_an_image_on_trial_has_the_engine_answer_in_a_sandbox(contained: Contained) -> None:
    # Whatever was swapped before was reverted, which counts as a failure.
    contained.swap(version=GOOD, trial_seconds=3600, retry=True)
    contained.machine.shell("systemctl start edgeml-trial.service")
    state = json.loads(contained.machine.shell(f"cat /var/lib/edgeml/store/models/{IMAGE}/state.json").stdout)
    assert (state["active"], state["trial"]["unready"]) == (GOOD, 0)
    contained.swap(version=GOOD, state="previous")
    assert contained.inspect(".Config.Image") == contained.images.references[FIRST]


def test_a_swap_of_the_image_that_is_killed_is_put_right_by_the_device(contained: Contained, tmp_path: Path) -> None:
    """Whoever swapped is gone when a container of the new image has begun."""
    machine = contained.machine
    with load(contained, tmp_path) as sent:
        swap = machine.start(f"edgeml activate {IMAGE} {GOOD} --retry --trial-seconds 0 --min-ready-seconds 0")
        machine.wait_until(_runs(contained, BRIDGE))
        # Not this command itself, which has the brackets.
        machine.shell("kill -KILL $(pgrep --full '[e]dgeml activate')")
        swap.communicate()
        machine.shell("edgeml watch")
        machine.wait_until(f"! {_runs(contained, BRIDGE)}")
    assert lost(sent) == []
    assert contained.inspect(".Config.Image") == contained.images.references[FIRST]
    assert serving(machine) == (OLD, OLD)


@pytest.mark.parametrize("swapped", [IMAGE, "digits"])
def test_after_a_power_cut_in_a_swap_the_container_serves_again(contained: Contained, swapped: str) -> None:
    machine = contained.machine
    machine.shell("sync")
    if swapped == IMAGE:
        swap = machine.start(f"edgeml activate {IMAGE} {GOOD} --retry --trial-seconds 0 --min-ready-seconds 0")
        machine.wait_until(_runs(contained, BRIDGE))
    else:
        swap = machine.start(ACTIVATE.format(NEW))
        # The looks are a second apart: the switch may lie between two.
        state = "/var/lib/edgeml/store/models/digits/state.json"
        machine.wait_until(f"""grep --quiet -e switching -e '"active": "{NEW}"' {state}""")
    machine.cut_power()
    swap.communicate()
    machine.boot()
    live, active = serving(machine)
    assert live == active
    assert active in ((OLD,) if swapped == IMAGE else (OLD, NEW))
    (state,) = [
        model for model in json.loads(machine.shell("edgeml status --json").stdout)["models"] if model["name"] == IMAGE
    ]
    reference = contained.images.references[state["active"] or FIRST]
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
    machine.shell("podman kube play --network=host -", stdin=_played(machine.shell(f"cat {FILLED}").stdout))
    machine.wait_until(
        "edgeml status --json | python3 -c 'import json, sys; sys.exit(not [1 for model in "
        'json.load(sys.stdin)["models"] if model["live"] == "1.1.0"])\''
    )
    with load(contained, tmp_path) as sent:
        machine.shell(ACTIVATE.format(NEW))
    assert lost(sent) == []
    assert versions(sent) == {OLD, NEW}


def _played(manifest: str) -> str:
    """The manifest without what Podman 4.3 does otherwise than the kubelet.

    It has no port on the host's network, and on its own one it forwards only what is sent to 0.0.0.0, which nothing is.
    It asks probes by ``curl`` in the container, which the image does not have.
    """
    documents = list(yaml.safe_load_all(manifest))
    for document in documents:
        if document["kind"] in ("Deployment", "DaemonSet"):
            (container,) = document["spec"]["template"]["spec"]["containers"]
            for key in ("ports", "startupProbe", "readinessProbe", "livenessProbe"):
                del container[key]
    return yaml.safe_dump_all(documents)


def _runs(contained: Contained, container: str) -> str:
    """A condition: the engine runs that container."""
    return f"{contained.engine} ps --filter name={container} --format '{{{{.Names}}}}' | grep --quiet {container}"


def _wait_for_another(contained: Contained, before: str) -> None:
    found = f"$({contained.engine} inspect --format '{{{{.Id}}}}' {SERVICE_CONTAINER} 2>/dev/null)"
    contained.machine.wait_until(f'[ -n "{found}" ] && [ "{found}" != {before} ]')
    contained.machine.wait_until("systemctl --quiet is-active edgeml-inference")
