# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role inference_service refuses, and that the server takes the configuration which it writes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import Authority
from controller import Ansible, Run
from device import Device
from edgeml_server.config import parse_config
from links import PYTHON_PATH, REPOSITORY
from oci_images import ARCHITECTURES, write_image

from ansible_collections.edgeml.fleet.plugins.module_utils._common.credentials import Credentials, hash_secret
from ansible_collections.edgeml.fleet.plugins.module_utils._device.runner import (
    Image,
    memory_bytes,
    read_image,
    read_runner,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.sharing import read_options

with tempfile.TemporaryDirectory() as _directory:
    _authority = Authority(Path(_directory), "authority")
    _certificate, _key, _other_key = (
        path.read_text() for path in (*_authority.issue("server"), _authority.issue("other")[1])
    )
    _image = Path(_directory) / "image.tar"
    IMAGE = write_image(_image, [], {"onnxruntime": "1.32.0"})
    IMAGE_ARCHIVE = _image.read_bytes()
    _other = {"x86_64": "aarch64", "aarch64": "x86_64"}[platform.machine()]
    write_image(_image, [], {"onnxruntime": "1.32.0"}, _other)
    FOREIGN_ARCHIVE = _image.read_bytes()
    CLIENT_CA = {"inference_service_tls_client_ca": _authority.path.read_text()}
TLS = {"inference_service_tls_certificate": _certificate, "inference_service_tls_key": _key}
CREDENTIALS = {"inference_service_credentials": [{"name": "line-3", "secret": "correct horse battery"}]}
OPEN = {"inference_service_listen_address": "0.0.0.0"}

# As `-e name=value` and INI inventories give them.
TEXTS = {
    "inference_service_listen_port": "8090",
    "inference_service_prediction_log": "false",
    "inference_service_drift_psi": "0.5",
    "inference_service_runtimes": "onnxruntime,ai-edge-litert",
}

# Each variable of the role, with a value that is not its default.
EVERY: dict[str, Any] = {
    **TLS,
    **CLIENT_CA,
    **CREDENTIALS,
    "inference_service_runner": "native",
    "inference_service_image": "",
    "inference_service_quadlet": False,
    "inference_service_tls_keep": False,
    "inference_service_listen_address": "127.0.0.2",
    "inference_service_listen_port": 8090,
    "inference_service_allow_unprotected": True,
    "inference_service_secure_logging": True,
    "inference_service_runtimes": ["ai-edge-litert", "onnxruntime"],
    "inference_service_execution_provider": "qnn",
    "inference_service_lock": "",
    "inference_service_devices": ["/dev/fastrpc-cdsp", "/dev/dma_heap/system"],
    "inference_service_device_groups": ["video", "render"],
    "inference_service_threads": 2,
    "inference_service_load_seconds": 60,
    "inference_service_max_pending": 32,
    "inference_service_max_request_bytes": 1 << 20,
    "inference_service_max_connections": 100,
    "inference_service_client_seconds": 10,
    "inference_service_deadline_ms": 500,
    "inference_service_prediction_log": True,
    "inference_service_prediction_log_rows": 1000,
    "inference_service_prediction_log_bytes": 1 << 22,
    "inference_service_prediction_log_sample_percent": 2.5,
    "inference_service_prediction_log_inputs": "full",
    "inference_service_collect_inputs": [{"model": "digits", "reasons": ["shadow"], "margin": 0.2, "days": 7}],
    "inference_service_batch_rows": 4,
    "inference_service_drift_window": 600,
    "inference_service_drift_psi": 0.5,
    "inference_service_memory_max": "50%",
    "inference_service_watchdog_seconds": 90,
    "inference_service_wheel_cache": "/var/cache/wheels",
    "inference_service_share": True,
    "inference_service_share_address": "127.0.0.3",
    "inference_service_share_port": 8470,
    "inference_service_share_bytes_per_second": 5000,
    "inference_service_share_connections": 2,
}
EVERY_AS_TEXT = {name: value if isinstance(value, str) else json.dumps(value) for name, value in EVERY.items()}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "open": (OPEN, "inference_service_allow_unprotected"),
    "open-not-allowed": (
        {**OPEN, "inference_service_allow_unprotected": "false"},
        "inference_service_allow_unprotected",
    ),
    "open-ipv6": ({"inference_service_listen_address": "::"}, "inference_service_allow_unprotected"),
    "open-name": ({"inference_service_listen_address": "127.evil.example"}, "inference_service_allow_unprotected"),
    "open-tls": ({**OPEN, **TLS}, "inference_service_allow_unprotected"),
    "open-credentials": ({**OPEN, **CREDENTIALS}, "inference_service_allow_unprotected"),
    "no-key": ({"inference_service_tls_certificate": _certificate}, "belong together"),
    "other-key": (
        {**TLS, "inference_service_tls_key": _other_key},
        "the key is not that of the first certificate, which is of CN=server",
    ),
    "only-ca": (CLIENT_CA, "needs both"),
    "no-wheels": ({"inference_service_runtimes": ["onnxruntime", "tflite-runtime"]}, "there are wheels of onnxruntime"),
    "no-container": (
        {"inference_service_image": "image.tar"},
        "inference_service_runner is native, which has no image: expected one of docker, podman, k3s",
    ),
    "no-podman": ({"inference_service_quadlet": "yes"}, "inference_service_quadlet is of Podman"),
    "no-systemd": (
        {"inference_service_runner": "supervisor"},
        "inference_service_runner is supervisor, which needs supervisord; the device has ",
    ),
    "no-wheels-in-containers": (
        {"inference_service_runner": "podman", "inference_service_runtimes": ["ncnn"]},
        "the runtimes are those of its image",
    ),
    "foreign-image": (
        {"inference_service_runner": "docker", "inference_service_image": "{{ playbook_dir }}/foreign.tar"},
        f"foreign.tar is built for {ARCHITECTURES[_other]}, but this device is {platform.machine()}",
    ),
    "short-secret": (
        {"inference_service_credentials": [{"name": "line-3", "secret": "tooshort"}]},
        "at least 16 characters; found 8",
    ),
}
TAKEN: dict[str, tuple[dict[str, Any], set[str]]] = {
    "defaults": ({}, set()),
    "texts": (TEXTS, set()),
    "allowed-text": ({**OPEN, "inference_service_allow_unprotected": "yes"}, set()),
    "allowed": ({**OPEN, "inference_service_allow_unprotected": True}, set()),
    "credentials": ({**OPEN, **TLS, **CREDENTIALS}, {"tls_certificate", "tls_key", "credentials"}),
    "every": (EVERY, {"tls_certificate", "tls_key", "tls_client_ca", "credentials"}),
    "every-text": (EVERY_AS_TEXT, {"tls_certificate", "tls_key", "tls_client_ca", "credentials"}),
    "docker": (
        {"inference_service_runner": "docker", "inference_service_image": "{{ playbook_dir }}/image.tar"},
        set(),
    ),
    "podman": ({"inference_service_runner": "podman", "inference_service_memory_max": "512M"}, set()),
    "clients": ({**OPEN, **TLS, **CLIENT_CA}, {"tls_certificate", "tls_key", "tls_client_ca"}),
}


@pytest.fixture(scope="module")
def run(machines: dict[str, Device], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The role looks at a device and renders its files, once for each of the cases."""
    device = machines["edge-s1"]
    cases = {name: {**device.inventory(), **variables} for name, (variables, _) in {**REFUSED, **TAKEN}.items()}
    ansible = Ansible(tmp_path_factory.mktemp("ansible"), [], **cases)
    role = REPOSITORY / "roles" / "inference_service"
    files = {
        "config": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/server.json') }}",
        "share": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/share.json') }}",
        "unit": "{{ lookup('ansible.builtin.template', unit) }}",
        "runner": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/runner.json') if engine else '' }}",
        "image": "{{ __inference_service_image_files | map(attribute='content') | list }}",
        "bundle": "{{ __inference_service_bundle }}",
        "directories": "{{ __inference_service_code_directories }}",
        "credentials": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/credentials.json') }}",
        "validate": "{{ __inference_service_configure.files | map(attribute='validate', default=[]) | select }}",
        "files": "{{ __inference_service_configure.files | selectattr('present', 'defined') | selectattr('present') }}",
    }
    variables = {
        "role_path": str(role),
        "unit": "{{ role_path }}/templates/runners/{{ __inference_service_values.runner }}.service",
        "engine": "{{ __inference_service_in_container }}",
    }
    look = {"name": "edgeml.fleet.inference_service", "tasks_from": "preflight", "public": True}
    tasks = [
        {"name": "Look", "ansible.builtin.include_role": look},
        {"name": "Render", "ansible.builtin.debug": {"msg": files}, "vars": variables},
    ]
    play = {"hosts": "edge", "gather_facts": False, "tasks": tasks}
    (ansible.directory / "image.tar").write_bytes(IMAGE_ARCHIVE)
    (ansible.directory / "foreign.tar").write_bytes(FOREIGN_ARCHIVE)
    (ansible.directory / "prepare.yml").write_text(json.dumps([play]))
    return ansible.run("prepare.yml")


def parsed(text: Any) -> Any:
    """What a template rendered, which Ansible may have parsed already."""
    return json.loads(text) if isinstance(text, str) else text


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(run: Run, name: str) -> None:
    assert run.stats[name]["failures"] == 1
    checks = ("Refuse what cannot work", "Render")
    failed = [result for check in checks for host, result in run.results(check).items() if host == name]
    assert REFUSED[name][1] in failed[-1]["msg"]
    assert "tooshort" not in failed[-1]["msg"]
    assert "PRIVATE KEY" not in failed[-1]["msg"]


@pytest.mark.parametrize("name", TAKEN)
def test_the_server_takes_the_roles_configuration(run: Run, name: str) -> None:
    files = run.results("Render")[name]["msg"]
    config = parse_config(parsed(files["config"]))
    found = {key: getattr(config, key) for key in ("tls_certificate", "tls_key", "tls_client_ca", "credentials")}
    assert {key for key, value in found.items() if value} == TAKEN[name][1]
    shared = {"/etc/edgeml/share.json"} if name.startswith("every") else set()
    assert {item["path"] for item in files["files"]} == shared | {value for value in found.values() if value}
    if name in ("docker", "podman"):
        return
    # The command that reloads compares what the server was started by.
    started_by = "--config /etc/edgeml/server.json --definition /etc/systemd/system/edgeml-inference.service"
    assert f"python -m edgeml_server {started_by}\n" in files["unit"]
    assert f"python -m edgeml_server.tools.reload {started_by} --watchdog-seconds " in files["unit"]


def test_every_variable_reaches_the_device_alike_as_text_and_as_its_own_type(run: Run) -> None:
    spec = yaml.safe_load((REPOSITORY / "roles/inference_service/meta/argument_specs.yml").read_text())
    assert EVERY.keys() == spec["argument_specs"]["main"]["options"].keys()
    typed, text = (run.results("Render")[name]["msg"] for name in ("every", "every-text"))
    assert parsed(typed["config"]) == parsed(text["config"])
    assert parsed(typed["config"])["prediction_log_sample_percent"] == 2.5
    assert parsed(typed["share"]) == parsed(text["share"])
    for name in ("unit", "files", "validate"):
        assert typed[name] == text[name]
    assert "MemoryMax=50%\n" in text["unit"]
    assert "WatchdogSec=90\n" in text["unit"]
    assert "DevicePolicy=closed\nDeviceAllow=/dev/fastrpc-cdsp rw\n" in text["unit"]
    assert "SupplementaryGroups=video render\n" in text["unit"]
    assert parsed(text["config"])["execution_provider"] == "qnn"
    # The salt is another for each device.
    assert parsed(typed["credentials"]).keys() == parsed(text["credentials"]).keys()


def test_the_device_reads_how_it_shares(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "share.json"
    for name, tls in (("defaults", None), ("every", "/etc/edgeml/tls-certificate.pem")):
        path.write_text(json.dumps(parsed(run.results("Render")[name]["msg"]["share"])))
        assert read_options(str(path)).certificate_file == tls
    assert read_options(str(path))[:4] == ("127.0.0.3", 8470, 5000, 2)


# What an argument spec and the role's own checks let through, and the server does not.
NOT_TAKEN = {
    "inference_service_listen_port": 70000,
    "inference_service_threads": 0,
    "inference_service_prediction_log_bytes": 1,
    "inference_service_drift_window": 10,
    "inference_service_prediction_log_inputs": "all",
    "inference_service_collect_inputs": [{"model": "../digits"}],
}


def test_a_configuration_that_the_server_refuses_changes_nothing(run: Run, tmp_path: Path) -> None:
    """The role's own command, of which the paths are this clone's."""
    message = run.results("Render")["defaults"]["msg"]
    config = json.dumps(parsed(message["config"]))
    (program,) = parsed(message["validate"])
    app, python = program[1].partition("=")[2], program[2]
    assert (program[0], app[:16], python[:17]) == ("env", "/opt/edgeml/app-", "/opt/edgeml/venv-")
    program[1:3] = [f"PYTHONPATH={PYTHON_PATH}", sys.executable]
    path = tmp_path / "server.json"
    ansible = Ansible(tmp_path, [], edge={"ansible_connection": "local"})

    def write(content: str) -> dict[str, Any]:
        files = [
            {"path": str(tmp_path / "key.pem"), "content": content[:9], "mode": "0600"},
            {"path": str(path), "content": content, "mode": "0600", "validate": program},
        ]
        task = {"name": "Set up", "edgeml.fleet.device_setup": {"parts": [{"files": files}]}}
        (ansible.directory / "play.yml").write_text(
            json.dumps([{"hosts": "edge", "gather_facts": False, "tasks": [task]}])
        )
        return ansible.run("play.yml").results("Set up")["edge"]

    first = write(config)
    assert first["changed"], first
    before = {item.name: item.read_bytes() for item in tmp_path.glob("*.*")}
    for name, value in NOT_TAKEN.items():
        key = name.removeprefix("inference_service_")
        result = write(json.dumps({**json.loads(config), key: value}, indent=1))
        assert f"{path}: the new content is refused, and no file was changed: {key}: expected" in result["msg"]
        assert result["changes"] == []
    assert {item.name: item.read_bytes() for item in tmp_path.glob("*.*")} == before


def test_values_that_arrive_as_text_count_as_what_they_say(run: Run) -> None:
    config = parse_config(parsed(run.results("Render")["texts"]["msg"]["config"]))
    assert (config.listen_port, config.prediction_log, config.drift_psi) == (8090, "", 0.5)


def test_the_device_gets_hashes_of_the_secrets(run: Run, tmp_path: Path) -> None:
    document = parsed(run.results("Render")["credentials"]["msg"]["credentials"])
    assert document["hashes"] == {"line-3": hash_secret("correct horse battery", bytes.fromhex(document["salt"])).hex()}
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(document))
    credentials = Credentials(str(path))
    assert credentials.verify("line-3", "correct horse battery")
    assert credentials.verify(None, "correct horse battery")
    assert not credentials.verify("line-4", "correct horse battery")
    assert not credentials.verify("line-3", "correct horse batter")


def test_the_apps_name_covers_every_file_that_the_bundle_ships(run: Run, tmp_path: Path) -> None:
    archive, role = tmp_path / "bundle.tar.gz", REPOSITORY / "roles" / "inference_service"
    directories = parsed(run.results("Render")["defaults"]["msg"]["directories"])
    trees = {
        "app/edgeml_server": role / "files" / "edgeml_server",
        "app": role / "files" / "device",
        "app/edgeml_device": REPOSITORY / "plugins" / "module_utils",
    }
    subprocess.run([role / "files/pack-app", archive, role / "files", trees["app/edgeml_device"]], check=True)
    with tarfile.open(archive) as bundle:
        bundle.extractall(tmp_path / "bundle")
    (tmp_path / "bundle" / "install").unlink()
    shipped = {
        str(path.relative_to(tmp_path / "bundle")): path.read_bytes()
        for path in (tmp_path / "bundle").rglob("*")
        if path.is_file()
    }
    assert [Path(directory).resolve() for directory in directories] == list(trees.values())
    named = {
        f"{place}/{path.relative_to(tree)}": path.read_bytes()
        for place, tree in trees.items()
        for path in tree.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    # The collection must not hold an executable file with an interpreter line; the device's command needs one.
    assert shipped == {**named, "app/edgeml": b"#!/usr/bin/python3 -sSE\n" + named["app/edgeml"]}


@pytest.mark.parametrize("name", ["defaults", "docker", "podman"])
def test_systemd_reads_the_units_of_each_runner(run: Run, tmp_path: Path, name: str) -> None:
    text: str = run.results("Render")[name]["msg"]["unit"]
    unit = tmp_path / "edgeml-inference.service"
    # Of what the device has, systemd finds the programs missing here, and says so; nothing else is to be said.
    for program in ("/usr/local/bin/edgeml", "/usr/bin/podman", "/usr/bin/docker", "/opt/edgeml/venv"):
        text = text.replace(f"={program}", "=/bin/true ").replace(f"-{program}", "-/bin/true ")
        text = text.replace(f"+{program}", "+/bin/true ")
    unit.write_text(text.replace("OnFailure=edgeml-rescue.service\n", "").replace("Wants=docker.service\n", ""))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_a_container_has_the_store_read_only_and_the_sockets_directory(run: Run, name: str) -> None:
    message = run.results("Render")[name]["msg"]
    unit: str = message["unit"].replace("\\\n", " ")
    (start,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    words = start.split()
    relay = ["ExecStart=/usr/local/bin/edgeml", "relay", "--socket=/run/edgeml/notify.sock", "--"]
    assert words[:5] == [*relay, f"/usr/bin/{name}"]
    for word in ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pull=never", "--network=host"):
        assert word in words
    mounts = [word.partition("--mount=")[2] for word in words if word.startswith("--mount=")]
    assert mounts == [
        "type=bind,source=/etc/edgeml,target=/etc/edgeml,readonly",
        "type=bind,source=/var/lib/edgeml/store,target=/var/lib/edgeml/store,readonly",
        "type=bind,source=/run/edgeml,target=/run/edgeml",
        "type=bind,source=/var/lib/edgeml-inference,target=/var/lib/edgeml-inference",
    ]
    assert words[words.index("${EDGEML_IMAGE}") + 1 :] == [
        *("/opt/edgeml/venv/bin/python", "-m", "edgeml_server", "--config", "/etc/edgeml/server.json", "$EDGEML_JOIN"),
    ]
    assert parsed(message["bundle"])["arguments"][0] == ""
    assert [item[:4] for item in parsed(message["bundle"])["names"]] == ["app-"]


def test_the_device_reads_how_the_service_runs(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "runner.json"
    path.write_text(json.dumps(parsed(run.results("Render")["podman"]["msg"]["runner"])))
    runner = read_runner(str(path))
    assert runner[:2] == ("podman", "/usr/bin/podman")
    assert memory_bytes(runner.memory_max, 0) == 512 << 20
    (document,) = run.results("Render")["docker"]["msg"]["image"]
    (tmp_path / "role-image.json").write_text(json.dumps(parsed(document)))
    assert read_image(str(tmp_path)) == Image(IMAGE, {"onnxruntime": "1.32.0"})
    assert run.results("Render")["podman"]["msg"]["image"] == []


def test_the_runners_are_those_that_there_are_files_of() -> None:
    role = REPOSITORY / "roles" / "inference_service"
    spec = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    files = {path.stem for path in (role / "vars" / "runners").iterdir()}
    assert set(spec["inference_service_runner"]["choices"]) == files
