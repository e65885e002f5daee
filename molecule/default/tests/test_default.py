# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device is after it was provisioned and given a release."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from testinfra.host import Host

VERSION = "1.1.0"
REPOSITORY = Path(__file__).parents[3] / "examples/digits/repository"
MANIFEST = json.loads((REPOSITORY / "digits" / VERSION / "manifest.json").read_text())
STORE = "/var/lib/edgeml/store"
MODEL = f"{STORE}/models/digits"


def test_the_device_has_the_processor_of_its_fleet(host: Host, architecture: str) -> None:
    assert host.check_output("uname -m") == architecture
    assert host.check_output("/usr/bin/python3 -c 'import platform; print(platform.machine())'") == architecture


def test_the_service_is_active_enabled_and_confined(host: Host) -> None:
    service = host.service("edgeml-inference")
    assert service.is_running
    assert service.is_enabled
    shown = host.check_output(
        "systemctl show edgeml-inference --property=User,Type,NoNewPrivileges,ProtectSystem,WatchdogUSec,NRestarts"
    )
    properties = dict(line.split("=", 1) for line in shown.splitlines())
    assert properties == {
        "User": "edgeml",
        "Type": "notify",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "WatchdogUSec": "1min",
        "NRestarts": "0",
    }


def test_the_service_may_use_less_memory_than_the_device_has(host: Host) -> None:
    limit = int(host.check_output("systemctl show edgeml-inference --property=MemoryMax --value"))
    total = int(host.check_output("awk '/MemTotal/ {print $2}' /proc/meminfo")) * 1024
    assert 256 << 20 <= limit < total


def test_the_server_answers_on_its_port_and_its_socket(host: Host) -> None:
    assert host.socket("tcp://0.0.0.0:8080").is_listening
    socket = host.file("/run/edgeml/server.sock")
    assert socket.is_socket
    assert (socket.user, socket.mode & 0o007) == ("edgeml", 0)


def test_the_release_serves(host: Host) -> None:
    code = (
        "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/v2/models/digits').read().decode())"
    )
    metadata = json.loads(host.check_output("python3 -c %s", code))
    assert metadata["versions"] == [VERSION]


def test_the_device_tells_what_serves(host: Host) -> None:
    models = json.loads(host.check_output("edgeml status --json"))["models"]
    assert [(model["name"], model["live"], model["active"]) for model in models] == [("digits", VERSION, VERSION)]


def test_the_device_watches_after_a_reboot_too(host: Host) -> None:
    assert host.service("edgeml-trial.timer").is_enabled


def test_nobody_on_the_network_can_load_a_model(host: Host) -> None:
    code = (
        "import urllib.request, urllib.error\n"
        "try: urllib.request.urlopen('http://127.0.0.1:8080/v2/repository/models/digits/unload', data=b'')\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    assert host.check_output("python3 -c %s", code) == "403"


def test_the_right_digest_is_active(host: Host) -> None:
    assert json.loads(host.file(f"{MODEL}/state.json").content_string)["active"] == VERSION
    for promised in MANIFEST["variants"][0]["files"]:
        assert host.file(f"{MODEL}/versions/{VERSION}/{promised['path']}").sha256sum == promised["sha256"]
    metrics = host.check_output(
        "python3 -c %s",
        "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/metrics').read().decode())",
    )
    canonical = json.dumps(MANIFEST, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert f'digest="{hashlib.sha256(canonical).hexdigest()}"' in metrics


@pytest.mark.parametrize(
    ("path", "owner", "group", "mode"),
    [
        ("/etc/edgeml", "root", "edgeml", 0o750),
        ("/etc/edgeml/server.json", "root", "edgeml", 0o640),
        ("/opt/edgeml", "root", "root", 0o755),
        (STORE, "root", "edgeml", 0o750),
        (f"{MODEL}/state.json", "root", "edgeml", 0o640),
        (f"{MODEL}/journal.jsonl", "root", "edgeml", 0o640),
        (f"{MODEL}/versions/{VERSION}", "root", "edgeml", 0o750),
        (f"{MODEL}/versions/{VERSION}/model.onnx", "root", "edgeml", 0o440),
        ("/etc/systemd/system/edgeml-inference.service", "root", "root", 0o644),
        ("/etc/systemd/system/edgeml-trial.timer", "root", "root", 0o644),
        ("/etc/systemd/system/edgeml-trial.service", "root", "root", 0o644),
        ("/etc/systemd/system/edgeml-rescue.service", "root", "root", 0o644),
        ("/etc/systemd/system/edgeml-go-back.service", "root", "root", 0o644),
        ("/etc/systemd/system/edgeml-clear.service", "root", "root", 0o644),
    ],
)
def test_files_are_owned_and_closed_as_they_should_be(host: Host, path: str, owner: str, group: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.group, file.mode) == (owner, group, mode)


def test_the_service_cannot_change_its_models(host: Host) -> None:
    for path in (STORE, f"{MODEL}/state.json", f"{MODEL}/versions/{VERSION}/model.onnx"):
        assert host.run("setpriv --reuid=edgeml --regid=edgeml --clear-groups test -r %s", path).succeeded
        assert host.run("setpriv --reuid=edgeml --regid=edgeml --clear-groups test -w %s", path).failed


def test_nothing_is_left_of_the_installation(host: Host) -> None:
    left = host.check_output("ls /opt/edgeml").split()
    assert sorted(name.split("-")[0] for name in left) == ["app", "venv"]
    assert host.check_output(f"ls {STORE}/staging") == ""


def test_no_restart_is_pending(host: Host) -> None:
    assert host.run("ls /run/edgeml-setup").stdout == ""
    shown = host.check_output(
        "systemctl show edgeml-inference edgeml-trial.timer systemd-journald --property=NeedDaemonReload --value"
    )
    assert set(shown.split()) == {"no"}


def test_the_journal_runs_with_its_limits(host: Host) -> None:
    limits = "/etc/systemd/journald.conf.d/50-edgeml.conf"
    started = host.check_output("systemctl show systemd-journald --property=ActiveEnterTimestamp --value")
    assert int(host.check_output("date --date=%s +%%s", started)) >= host.file(limits).mtime.timestamp() - 1


def test_the_device_runs_without_failed_units(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"


def test_time_synchronisation_and_journal_limits_are_set(host: Host) -> None:
    assert host.service("systemd-timesyncd").is_enabled
    assert "SystemMaxUse=128M" in host.file("/etc/systemd/journald.conf.d/50-edgeml.conf").content_string


def test_hardware_facts_tell_the_class(host: Host, architecture: str) -> None:
    facts = json.loads(host.check_output("/etc/ansible/facts.d/edgeml.fact"))
    assert facts["architecture"] == architecture
    classes = {"s": 1 << 30, "l": 2 << 30}
    most = classes[host.check_output("hostname").split("-")[1][0]]
    assert most * 0.8 < facts["memory_bytes"] <= most
    assert facts["runtimes"]["onnxruntime"] == "1.32.0"
    assert re.fullmatch(r"[a-z0-9_-]+-[0-9]+[mg]b", facts["device_class"])
