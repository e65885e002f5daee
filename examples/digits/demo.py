# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's main job on the quickstart's emulated ARM fleet, from pristine devices to a rejected release.

`make demo` runs it. Everything goes through the same playbooks that an operator runs; what they print is shown as it
comes. At the end, what happened is compared with what should have, and the exit code is 1 where the two differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pull_mode import FLEET, POLL_SECONDS, PullMode
from traffic import MODEL, REPOSITORY, Report, Target, Traffic

CLONE = Path(__file__).resolve().parents[2]
# What was rolled out, with a report of each rollout; made anew by each run.
LEDGER = CLONE / ".cache" / "demo" / "ledger"
GOOD, BETTER, BAD, DAMAGED = "1.0.0", "1.1.0", "1.2.0", "1.3.0"
# A device of the first wave.
PULLED = "edge-s1"
REQUESTS_PER_SECOND = 4.0
# A machine that is busy with other work is slow, and no more than that: a reply may take its time, and so may a login.
# A connection that fails nevertheless is made again.
REQUEST_SECONDS = 60.0
PATIENCE = {"ANSIBLE_TIMEOUT": "60", "ANSIBLE_SSH_RETRIES": "5"}
# How long the preparations are tried again while a device cannot be reached.
PREPARATION_SECONDS = 900
UNREACHABLE = 4
# Ends with the process that started it, also when that is killed.
BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass"


@dataclass(frozen=True)
class Device:
    """A device of the inventory, and where its server answers on this machine."""

    name: str
    device_class: str
    port: int

    def live_version(self) -> str:
        """The version that the device's server answers with now, asked over HTTP."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/models/{MODEL}", timeout=30) as reply:
            versions: list[str] = json.load(reply)["versions"]
        return versions[-1]


@dataclass(frozen=True)
class Run:
    """What one playbook did: its exit code, its output, how that is shown, and its ledger where it wrote one."""

    code: int
    output: str
    shown: str
    ledger: dict[str, Any] | None

    def outcomes(self) -> dict[str, str]:
        """The outcome of each device, by name."""
        return {row["device"]: row["outcome"] for row in (self.ledger or {"devices": []})["devices"]}


class StoryError(Exception):
    """The story cannot go on; the text is what should have happened."""


class Story:
    """Announces what comes, measures how long each part takes, and remembers what did not go as expected."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []
        self.wrong: list[str] = []

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """Announce a part and take its time."""
        print(f"\n=== {title} ===", flush=True)
        began = time.monotonic()
        try:
            yield
        finally:
            self.times.append((title, time.monotonic() - began))

    def expect(self, expected: str, true: bool) -> None:
        """Say whether something went as expected."""
        print(f"  {'as expected' if true else 'NOT AS EXPECTED'}: {expected}", flush=True)
        if not true:
            self.wrong.append(expected)

    def require(self, expected: str, true: bool) -> None:
        """Say whether something went as expected, and end the story where it did not: what follows builds on it."""
        self.expect(expected, true)
        if not true:
            raise StoryError(expected)


def main() -> int:
    """Run the story; return 0 when everything went as expected."""
    parser = argparse.ArgumentParser(description="Roll models out over emulated ARM devices, good ones and bad ones.")
    parser.add_argument("--keep", action="store_true", help="leave the devices running at the end")
    parser.add_argument(
        "--load", type=int, default=0, metavar="N", help="keep N processes computing meanwhile, as on a busy machine"
    )
    arguments = parser.parse_args()
    keep: bool = arguments.keep
    story = Story()
    rows: list[dict[str, str]] = []
    try:
        shutil.rmtree(LEDGER, ignore_errors=True)
        with (
            tempfile.TemporaryDirectory(prefix="edgeml-demo-") as scratch,
            PullMode(Path(scratch), Path(scratch) / "models", PULLED) as pull,
            busy(arguments.load),
        ):
            rows = tell(story, read_inventory(), Path(scratch), pull)
    except StoryError:
        print("  The rest is left out: it builds on this.")
    finally:
        if not keep:
            with story.part("Remove the devices"):
                playbook(CLONE / "molecule/shared/destroy.yml")
    print_end(story, rows)
    return 1 if story.wrong else 0


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes computing, each of which would take a processor for itself."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())]))
            stack.callback(process.kill)
        yield


def tell(story: Story, devices: list[Device], scratch: Path, pull: PullMode) -> list[dict[str, str]]:
    """Run the parts in their order; return the rows of the closing table."""
    with (
        story.part(f"Sign the releases, and start {len(devices)} pristine ARM devices"),
        ThreadPoolExecutor() as beside,
    ):
        # On this machine alone, so it need not wait for devices. What it prints is shown where it belongs.
        signed = beside.submit(sign_releases, scratch)
        authority = beside.submit(playbook, "edgeml.fleet.enroll", pull.enrolment_variables(), show=False)
        story.require("they start", playbook(CLONE / "molecule/shared/create.yml").code == 0)
        signed.result()

    with story.part("Provision them and install the inference service"):
        story.require("they are provisioned", prepare("edgeml.fleet.provision").code == 0)

    with story.part(f"Have {PULLED} ask by itself every {POLL_SECONDS} s: nobody connects to it any more"):
        print(authority.result().shown, end="")
        story.require("the fleet has an authority", authority.result().code == 0)
        story.require("it asks", prepare("edgeml.fleet.pull_agent", pull.agent_variables()).code == 0)

    with story.part(f"Deploy release {GOOD}"):
        first = rollout(GOOD, scratch, pull, waves=["100%"])
        story.require(
            f"{GOOD} serves on all",
            set(first.outcomes().values()) == {"updated"} and first.code == 0,
        )

    targets = [Target(device.name, "127.0.0.1", device.port) for device in devices]
    traffic = Traffic(targets, rate=REQUESTS_PER_SECOND, timeout=REQUEST_SECONDS).start()
    try:
        with story.part(f"Roll out {BETTER}, more accurate, while requests flow"):
            second = rollout(BETTER, scratch, pull)
            story.expect(
                "it went out in two waves, and each passed its gate",
                second.code == 0
                and [wave["verdict"] for wave in (second.ledger or {"waves": []})["waves"]] == ["pass"] * 2,
            )
            story.expect(
                f"{BETTER} serves on all",
                all(device.live_version() == BETTER for device in devices),
            )

        with story.part(f"Roll out {BAD}, valid but bad: trained on wrongly scaled images"):
            third = rollout(BAD, scratch, pull)
            bad_wave = (third.ledger or {"waves": [{"outcomes": {}, "verdict": None}]})["waves"][0]
            canaries = {device.name for device in devices if device.name in bad_wave["outcomes"]}
            others = {device.name for device in devices} - canaries
            seen_bad = {name for name, report in traffic.report().items() if BAD in report.versions}
            story.expect(
                "the gate failed the first wave, and the playbook failed",
                bad_wave["verdict"] == "fail" and third.code != 0,
            )
            story.expect(
                f"the canary ({', '.join(sorted(canaries))}) was reverted",
                bool(canaries) and all(third.outcomes()[name] == "reverted" for name in canaries),
            )
            story.expect(
                f"the others ({', '.join(sorted(others))}) never served it",
                bool(others)
                and not seen_bad & others
                and all(third.outcomes()[name] == "not started" for name in others),
            )

        with story.part(f"Try {DAMAGED}, whose model file was damaged"):
            fourth = rollout(DAMAGED, scratch, pull, repository=damaged_repository(scratch))
            story.expect(
                "it was refused on its checksum, before any device was touched",
                fourth.code != 0 and "expected SHA-256" in fourth.output and fourth.ledger is None,
            )
            story.expect(
                f"{BETTER} still serves on all",
                all(device.live_version() == BETTER for device in devices),
            )
    finally:
        reports = traffic.stop()

    story.expect(
        f"none of {sum(report.sent for report in reports.values())} live requests failed",
        all(report.sent > 0 and report.failed == report.resent == 0 for report in reports.values()),
    )
    for name, report in reports.items():
        for error in report.first_errors:
            print(f"  {name}: {error}")
    story.expect(f"{PULLED} asked by itself, {pull.polls} times", pull.polls > 0)
    before = {row["device"]: row["before"] for row in (second.ledger or {"devices": []})["devices"]}
    return [closing_row(device, before.get(device.name, "-"), third, reports[device.name]) for device in devices]


def read_inventory() -> list[Device]:
    """The devices of the quickstart's inventory."""
    listed = subprocess.run(
        ["ansible-inventory", "--list"],
        cwd=CLONE,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    hostvars: dict[str, dict[str, Any]] = json.loads(listed)["_meta"]["hostvars"]
    return [
        Device(name, variables["device_class"], variables["device_inference_port"])
        for name, variables in hostvars.items()
        if "device_inference_port" in variables
    ]


def rollout(
    version: str,
    scratch: Path,
    pull: PullMode,
    waves: list[str] | None = None,
    repository: Path | None = None,
) -> Run:
    """Run the rollout playbook for one version."""
    variables: dict[str, Any] = {
        "model_name": MODEL,
        "model_version": version,
        "model_repository": str(repository or scratch / "models"),
        "model_repository_root": str(scratch / "keys/root.json"),
        "model_repository_state": str(scratch / "repositories"),
        # As the tests on these devices set it.
        "model_repository_unsigned": False,
        "rollout_ledger": str(LEDGER),
    }
    if waves is not None:
        variables["rollout_waves"] = waves
    return playbook("edgeml.fleet.rollout", variables, pull.inventory())


def prepare(name: str, variables: dict[str, Any] | None = None) -> Run:
    """Run a playbook that is no part of the story, again while a device cannot be reached, for a bounded time."""
    deadline, pause = time.monotonic() + PREPARATION_SECONDS, 5.0
    while True:
        run = playbook(name, variables)
        if run.code != UNREACHABLE or time.monotonic() + pause > deadline:
            return run
        print(f"  A device could not be reached, on a busy machine for example: the next attempt is in {pause:.0f} s.")
        time.sleep(pause)
        pause = min(2 * pause, 60.0)


def playbook(
    name: str | Path, variables: dict[str, Any] | None = None, inventory: Path | None = None, *, show: bool = True
) -> Run:
    """Run a playbook of the installed collection, or the one at a path, and show what it prints as it comes.

    ``inventory`` comes beside the quickstart's. Without ``show`` what it prints is only in the result.
    """
    command = ["ansible-playbook", str(name)]
    if inventory:
        command += ["-i", "inventories/quickstart/hosts.yml", "-i", str(inventory)]
    if variables:
        command += ["--extra-vars", json.dumps(variables)]
    shown: list[str] = []

    def print_line(line: str) -> None:
        shown.append(line)
        if show:
            print(line, end="", flush=True)

    print_line(f"$ {' '.join(command)}\n")
    environment = {**PATIENCE, **os.environ, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false"}
    lines = []
    with subprocess.Popen(
        command,
        cwd=CLONE,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.strip():
                print_line(f"  {line}")
    ledger = None
    if variables and "rollout_ledger" in variables:
        ledger = Path(variables["rollout_ledger"], f"{variables['model_name']}-{variables['model_version']}-1.json")
    return Run(
        process.returncode,
        "".join(lines),
        "".join(shown),
        json.loads(ledger.read_text()) if ledger and ledger.exists() else None,
    )


def sign_releases(scratch: Path) -> None:
    """Make the demo's own repository: the example's releases and one more, signed with a key for trying."""
    models = scratch / "models"
    shutil.copytree(REPOSITORY, models)
    manifest = json.loads((models / MODEL / BETTER / "manifest.json").read_text())
    manifest["version"] = DAMAGED
    (models / MODEL / DAMAGED).mkdir()
    (models / MODEL / DAMAGED / "manifest.json").write_text(json.dumps(manifest))
    keys = scratch / "keys"
    sign(models, "init", "--dev", f"--keys={keys}")
    # Who may say what the devices that pull follow.
    own = f"{keys}/dev.pem"
    sign(models, "fleet", f"--fleet={FLEET}", f"--add={keys}/dev.pub", f"--key={own}", f"--online-key={own}")


def sign(models: Path, *arguments: str) -> None:
    """Run a command of ``edgeml-publish keys`` on the demo's repository."""
    subprocess.run(
        [CLONE / "bin/edgeml-publish", "keys", *arguments, f"--repository={models}"],
        env={**os.environ, "PYTHON": sys.executable},
        check=True,
    )


def damaged_repository(scratch: Path) -> Path:
    """A copy of the repository in which one bit of a model was flipped on the way."""
    target = shutil.copytree(scratch / "models", scratch / "damaged")
    manifest = json.loads((target / MODEL / DAMAGED / "manifest.json").read_text())
    blob = target / "blobs/sha256" / manifest["variants"][0]["files"][0]["sha256"]
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    return target


def closing_row(device: Device, before: str, bad: Run, report: Report) -> dict[str, str]:
    """One device's row of the closing table."""
    fate = {
        "reverted": f"{BAD} tried and reverted",
        "not started": f"{BAD} never came near",
    }
    outcome = bad.outcomes().get(device.name, "unknown")
    return {
        "device": device.name,
        "class": device.device_class,
        "transport": "pull" if device.name == PULLED else "push",
        "before": before,
        "after": device.live_version(),
        "outcome": f"updated; {fate.get(outcome, outcome)}",
        "requests": str(report.sent),
        "failed": str(report.failed),
        "p95 ms": str(report.latency_p95_ms),
    }


def print_end(story: Story, rows: list[dict[str, str]]) -> None:
    """The closing table, where the time went, and what did not go as expected."""
    if rows:
        print("\n=== What became of the devices ===")
        print_table(rows)
    print("\n=== Where the time went ===")
    total = sum(seconds for _, seconds in story.times)
    print_table([{"part": title, "seconds": f"{seconds:6.1f}"} for title, seconds in [*story.times, ("all", total)]])
    print("\n=== Reports of the rollouts ===")
    for report in sorted(LEDGER.glob("*.html")):
        print(f"  {report.relative_to(CLONE)}")
    print("\nEverything went as expected." if not story.wrong else "\nNot as expected:")
    for expected in story.wrong:
        print(f"  {expected}")


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows that have the same keys as aligned columns."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in [{name: name for name in widths}, *rows]:
        print("  " + "  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip())


if __name__ == "__main__":
    sys.exit(main())
