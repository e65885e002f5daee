# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet is watched: two devices that Prometheus reaches, one that forwards. One story, told by tests in their order.

Hours are simulated on the device: its own code records its own server's metrics, with the clock that is given. What
receives, stores, asks, alerts and routes is real.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest
from containers import ContainerController, wait_for
from links import REPOSITORY
from victoria_metrics import exported_form, has_all, samples_by_time
from watched_fleet import (
    DIRECTORY,
    FLEET,
    FORWARDING,
    NAMES,
    PROMETHEUS,
    REACHED,
    SPOOL,
    VICTORIA_METRICS,
    WATCHER,
    Client,
    Link,
    Webhook,
    address,
    begin_anew,
    copy_to,
    deliver,
    get,
    kept_samples,
    presence,
    python,
    queued,
    rows,
    simulate,
    stored,
    values,
)

DEVICES = [*REACHED, FORWARDING]
JOBS = ("edgeml-device", "edgeml-server")
DRIFT_ROWS = 600


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> ContainerController:
    directory = tmp_path_factory.mktemp("controller")
    # What rollouts know of the device that pulls: nobody connects to it.
    pulled = {FORWARDING: {"rollout_transport": "pull", "ansible_port": 1}}
    (directory / "hosts.yml").write_text(json.dumps({"watched": {"hosts": {**dict.fromkeys(REACHED), **pulled}}}))
    repository, keys, authority = DIRECTORY / "repository", DIRECTORY / "keys", DIRECTORY / "authority"
    servers = str(DIRECTORY / "servers-certificate.pem")
    usual = {
        "model_repository": str(repository),
        "model_repository_root": str(keys / "root.json"),
        "model_repository_state": str(directory / "repositories"),
        "model_repository_unsigned": False,
        "rollout_hosts": "watched",
        "status_hosts": "watched",
        "rollout_pull": {
            "fleet": "shop",
            "fleet_key": str(keys / "controller.pem"),
            "online_key": str(keys / "dev.pem"),
            "mailbox": f"https://{address(WATCHER)}:8443/reports",
            "mailbox_ca_file": servers,
            "certificate_file": str(authority / "reader-controller.pem"),
            "ca_file": str(authority / "ca.pem"),
            "report_seconds": 300,
            "mqtt_broker": address(WATCHER),
            "mqtt_ca_file": servers,
        },
        "rollout_waves": ["100%"],
        "rollout_soak_seconds": 2,
        "rollout_soak_seconds_max": 2,
        "rollout_limits": {"latency_ratio_max": 100},
    }
    inventories = [REPOSITORY / "inventories" / NAMES / "hosts.yml", directory / "hosts.yml"]
    return ContainerController(directory, inventories, usual)


@pytest.fixture(scope="module")
def webhook() -> Webhook:
    return Webhook()


# ---- what is scraped ----


def test_prometheus_reaches_the_devices_of_the_inventory() -> None:
    wanted = {(job, device): 1.0 for job in JOBS for device in REACHED}
    wait_for(lambda: values(PROMETHEUS, 'up{device!=""}', "job", "device") == wanted, "all targets are up")
    targets = json.loads(get(PROMETHEUS, "/api/v1/targets"))["data"]["activeTargets"]
    urls = {target["scrapeUrl"] for target in targets if target["labels"].get("device")}
    places = {f"https://{address(device)}:{port}/metrics" for device in REACHED for port in (8080, 9100)}
    assert urls == places


@pytest.mark.parametrize("port", [8080, 9100])
def test_who_has_no_certificate_reads_nothing(port: int) -> None:
    ask = (
        "import ssl, sys, urllib.request; context = ssl._create_unverified_context(); "
        "urllib.request.urlopen(sys.argv[1], context=context, timeout=60)"
    )
    with pytest.raises(subprocess.CalledProcessError) as refused:
        python(WATCHER, ask, f"https://{address(REACHED[0])}:{port}/metrics")
    # As the one says it, and the other.
    said = refused.value.stderr.decode()
    assert re.search("Remote end closed connection without response|ALERT_BAD_CERTIFICATE", said)


def test_who_has_no_password_reads_nothing() -> None:
    with closing(Client(REACHED[0])) as client, closing(Client(REACHED[0], "another password, as long")) as stranger:
        assert (client.get("/metrics"), stranger.get("/metrics")) == (200, 401)


@pytest.fixture
def client() -> Iterator[Client]:
    with closing(Client(REACHED[0])) as found:
        yield found


def test_node_exporter_reads_what_the_devices_write() -> None:
    def written() -> dict[tuple[str, ...], float]:
        return values(PROMETHEUS, 'edgeml_version_info{role="active",model="digits"}', "device", "job", "version")

    wanted = {(device, "edgeml-device", "1.0.0"): 1.0 for device in REACHED}
    wait_for(lambda: written() == wanted, "the devices' own metrics are scraped")
    assert values(PROMETHEUS, "node_textfile_scrape_error == 1", "device") == {}


def test_a_device_that_nobody_reaches_is_seen_as_well() -> None:
    wanted = {(job, device): 1.0 for job in JOBS for device in DEVICES}
    wait_for(
        lambda: values(VICTORIA_METRICS, 'last_over_time(up{device!=""}[5m])', "job", "device") == wanted,
        "VictoriaMetrics has all devices",
    )
    assert FLEET.on(FORWARDING, "systemctl is-active prometheus-node-exporter || true").strip() == "inactive"


# ---- what the controller knows ----


def test_a_rollout_and_presence_are_seen(controller: ContainerController) -> None:
    run = controller.rollout("1.1.0")
    assert run.returncode == 0
    assert controller.outcomes("1.1.0") == dict.fromkeys(DEVICES, "updated")
    page = controller.directory / "page"
    page.mkdir()
    status = controller.run("edgeml.fleet.status", status_page=str(page / "fleet.html"))
    assert status.returncode == 0
    assert re.search(rf"{FORWARDING} +\S+ +online +digits +1\.1\.0", status.stdout)
    copy_to(WATCHER, page / "fleet.prom", "/var/lib/prometheus/node-exporter/fleet.prom")
    wanted = {(device, "1.1.0"): 1.0 for device in DEVICES}
    wait_for(lambda: values(PROMETHEUS, "edgeml_fleet_on_release", "device", "version") == wanted, "the ledger's word")


# ---- every dashboard ----

SENSORS = {
    "thermal/thermal_zone0/type": "cpu-thermal",
    "thermal/thermal_zone0/temp": "61829",
    "thermal/cooling_device0/type": "thermal-cpufreq-0",
    "thermal/cooling_device0/cur_state": "0",
    "hwmon/hwmon0/power1_input": "2450000",
}
# Containers have no sensors of their own: the kernel's documentation says how a board's would look.
BOARD = "; ".join(
    [
        "umount /sys/class 2>/dev/null",
        "set -eu",
        "mkdir --parents /run/class",
        "cp --archive /sys/class/. /run/class 2>/dev/null || true",
        *(f"mkdir --parents /run/class/{name.rpartition('/')[0]}" for name in SENSORS),
        *(f"echo {content} >/run/class/{name}" for name, content in SENSORS.items()),
        "mount --bind /run/class /sys/class",
        "systemctl start edgeml-metrics.service",
    ]
)


def test_every_panel_of_the_dashboards_has_rows(client: Client) -> None:
    device = REACHED[0]
    FLEET.on(device, BOARD)
    shadow = json.dumps({"version": "1.1.0", "seconds": 3600})
    ask = (
        "import http.client, socket, sys; c = http.client.HTTPConnection('localhost'); "
        "c.sock = socket.socket(socket.AF_UNIX); c.sock.connect('/run/edgeml/server.sock'); "
        "c.request('POST', sys.argv[1], sys.argv[2]); print(c.getresponse().status)"
    )
    assert python(device, ask, "/v2/repository/models/plus/shadow", shadow).strip() == "200"

    def infer(number: int) -> None:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [number % DRIFT_ROWS / DRIFT_ROWS, 0.5]}
        assert client.post("/v2/models/plus/infer", {"id": str(number), "inputs": [tensor]}) == 200

    for number in range(DRIFT_ROWS):
        infer(number)
    label = {"id": "0", "label": 1}
    wait_for(lambda: client.post("/v2/models/plus/feedback", label) == 200, "the log has the request")
    waiting = {}
    for file in sorted((REPOSITORY / "docs" / "watching" / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            expression = re.sub(r"\$(model|device)", ".*", panel["targets"][0]["expr"])
            expression = expression.replace("$__rate_interval", "1m")
            waiting[VICTORIA_METRICS, file.stem, panel["title"]] = expression
            # Only devices that pull have these, and this one forwards.
            if "edgeml_pull_" not in expression:
                waiting[PROMETHEUS, file.stem, panel["title"]] = expression

    numbers = itertools.count(DRIFT_ROWS)

    def all_have_rows() -> bool:
        for key, expression in list(waiting.items()):
            # VictoriaMetrics has no row for a share of nothing.
            infer(next(numbers))
            if rows(key[0], expression):
                del waiting[key]
        print("without rows yet:", list(waiting))
        return not waiting

    wait_for(all_have_rows, "every panel has rows")


# ---- what is forwarded ----


@pytest.fixture(scope="module")
def down(webhook: Webhook) -> str:
    """The device whose server is ended before what takes long, so that an alert has the time that it needs."""
    assert webhook.alerts("EdgemlServiceDown") == []
    FLEET.on(REACHED[1], "systemctl stop edgeml-inference.service")
    return REACHED[1]


def assert_no_gap(times: list[int], recorded: dict[int, list[str]], tolerance_ms: int = 0) -> None:
    """What was recorded is stored, once, at its time. ``times`` are by the batches' numbers.

    Other tests had the same hours, so that more is stored.
    """
    found = samples_by_time(stored(times[0] - 2000, times[-1] + 2000))
    for number, samples in recorded.items():
        near = [time_ms for time_ms in found if abs(time_ms - times[number - 1]) <= tolerance_ms]
        wanted = exported_form(samples)
        assert [has_all(found[time_ms], wanted) for time_ms in near].count(True) == 1, f"batch {number}: {near}"


@pytest.fixture
def alone() -> Iterator[None]:
    """The device forwards only when the test says so."""
    begin_anew()
    yield
    FLEET.on(FORWARDING, "systemctl start edgeml-forward.timer")


@pytest.mark.usefixtures("down", "alone")
def test_a_device_that_was_cut_off_for_six_hours_leaves_no_gap() -> None:
    assert presence(FORWARDING)
    link = Link(FORWARDING)
    link.cut()
    try:
        said = simulate(360)
        assert "Network is unreachable: what was recorded is kept" in " ".join(said["lines"])
        recorded = kept_samples()
        assert list(recorded) == list(range(1, 361))
        wait_for(lambda: not presence(FORWARDING), "the broker says that the device is away")
    finally:
        link.mend()
    deliver(360)
    assert_no_gap(said["times"], recorded)
    wait_for(lambda: presence(FORWARDING), "the broker says that the device is back")


@pytest.mark.usefixtures("down", "alone")
def test_a_receiver_that_was_down_for_a_day_leaves_no_gap() -> None:
    # With what is before it, which would tell its time: the hours pass for the device alone.
    FLEET.on(WATCHER, "systemctl stop nginx victoria-metrics")
    try:
        said = simulate(1440)
        recorded = kept_samples()
    finally:
        FLEET.on(WATCHER, "systemctl start victoria-metrics nginx")
    assert list(recorded) == list(range(1, 1441))
    deliver(1440)
    assert_no_gap(said["times"], recorded)


@pytest.mark.usefixtures("down", "alone")
@pytest.mark.parametrize("believed", [0, 2_145_916_800], ids=["1970", "2038"])
def test_a_clock_that_jumps_leaves_no_wrong_time(believed: int) -> None:
    link = Link(FORWARDING)
    link.cut()
    try:
        said = simulate(30, 10, 20, believed)
        recorded = kept_samples()
    finally:
        link.mend()
    assert list(recorded) == list(range(1, 31))
    deliver(30)
    assert_no_gap(said["times"], recorded, tolerance_ms=1500)


@pytest.mark.usefixtures("down", "alone")
def test_a_full_disk_keeps_the_newest_minutes() -> None:
    link = Link(FORWARDING)
    link.cut()
    FLEET.on(FORWARDING, f"mount -t tmpfs -o size=20M,mode=0700 tmpfs {SPOOL}")
    try:
        times = simulate(30, ago=30)["times"]
        assert len(queued()) == 30
        FLEET.on(FORWARDING, f"cat /dev/zero >{SPOOL}/filler 2>/dev/null || true")
        times += simulate(30)["times"]
        recorded = kept_samples()
        numbers = list(recorded)
        assert numbers == list(range(numbers[0], 61))
        # A batch that is larger than the one before it takes the place of two.
        assert 20 <= len(numbers) <= 30
        FLEET.on(FORWARDING, f"rm {SPOOL}/filler")
        link.mend()
        deliver(60)
        assert_no_gap(times, recorded)
    finally:
        link.mend()
        FLEET.on(FORWARDING, f"umount {SPOOL}")
    # It tells what it lost.
    lost = f'max_over_time(edgeml_forward_lost_batches_total{{device="{FORWARDING}"}}[10m])'
    wait_for(lambda: any(float(row["value"][1]) >= 30 for row in rows(VICTORIA_METRICS, lost)), "the loss is counted")


# ---- what a person is told ----


def test_an_alert_is_delivered_and_ends(webhook: Webhook, down: str) -> None:
    wait_for(lambda: bool(webhook.alerts("EdgemlServiceDown")), "the webhook is told that a server is down")
    alert = webhook.alerts("EdgemlServiceDown")[0]
    assert (alert["path"], alert["status"], alert["labels"]["device"]) == ("/page", "firing", down)
    assert alert["annotations"]["summary"] == f"{down} is there, and its inference server does not answer"
    FLEET.on(down, "systemctl start edgeml-inference.service")
    wait_for(
        lambda: webhook.alerts("EdgemlServiceDown")[-1]["status"] == "resolved", "the webhook is told that it ended"
    )
