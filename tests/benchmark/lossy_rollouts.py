# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts by SSH over links that lose connections and packets and are slow: how often a link is taken for the version.

Every rollout has a fleet of its own. After it comes one reconcile, and then no device may be on a reverted version.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from bad_link import BadLink, DroppedConnections
from clone import REPOSITORY
from controller import Ansible
from releases import read_release
from simulated_fleet import Place, SimulatedFleet, leave_the_machine
from sshd import Sshd, find_sshd

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

DIGITS = REPOSITORY / "examples" / "digits" / "repository"
BEFORE, GOOD, BAD = "1.0.0", "1.1.0", "1.2.0"


@dataclass(frozen=True)
class Ended:
    """How a rollout ended: its state, how many devices had each outcome, those that one reconcile left on a version
    which they should not be on, its connections by what became of them, and its seconds."""

    version: str
    state: str
    outcomes: Mapping[str, int]
    misplaced: int
    connections: Mapping[str, int]
    seconds: float


class LossyRollouts:
    """Rolls releases out over ``link``, of whose connections a ``share`` is lost."""

    def __init__(self, directory: Path, link: BadLink, ssh: Sshd, devices: int, share: float) -> None:
        self._directory = directory
        self._link = link
        self._ssh = ssh
        self._devices = devices
        self._share = share

    def run(self, version: str, number: int) -> Ended:
        """Roll ``version`` out to a new fleet, and reconcile it once."""
        directory = self._directory / f"fleet-{number}"
        directory.mkdir()
        drops = DroppedConnections(directory / "connections", self._share)
        began = time.monotonic()
        with self._fleet(directory, version, drops) as (places, ansible):
            ledger = directory / "ledger"
            self._play(ansible, "rollout", ledger, model_name="digits", model_version=version)
            book = json.loads((ledger / f"digits-{version}-1.json").read_text())
            self._play(ansible, "reconcile", ledger)
            expected = version if book["state"] == "passed" else BEFORE
            active = [place.store.state("digits").active for place in places]
        return Ended(
            version=version,
            state=book["state"],
            outcomes=Counter(row["outcome"] for row in book["devices"]),
            misplaced=sum(found != expected for found in active),
            connections=drops.counts(),
            seconds=time.monotonic() - began,
        )

    def _play(self, ansible: Ansible, playbook: str, ledger: Path, **variables: Any) -> None:
        """Run a playbook; one that fails says in the ledger why."""
        run = ansible.run(
            f"edgeml.fleet.{playbook}",
            rollout_ledger=str(ledger),
            rollout_waves=["25%", "100%"],
            rollout_soak_seconds=0,
            # The devices' times are those of a machine with all of them.
            rollout_limits={"latency_ratio_max": 1000},
            **variables,
        )
        assert run.code in (0, 2, 3), run
        if run.code:
            print(f"{playbook}: {run!r}"[:5000], file=sys.stderr)

    @contextmanager
    def _fleet(
        self, directory: Path, version: str, drops: DroppedConnections
    ) -> Iterator[tuple[Sequence[Place], Ansible]]:
        before, after = (read_release(DIGITS, "digits", name) for name in (BEFORE, version))
        with SimulatedFleet(directory, self._devices, before, after) as fleet:
            hosts = {
                place.name: {**place.variables(), **self._ssh.variables(self._link.address(number)), **drops.variables}
                for number, place in enumerate(fleet.places)
            }
            ansible = Ansible(directory, [], **hosts)
            (ansible.directory / "ansible.cfg").write_text("[defaults]\nforks = 20\n")
            yield fleet.places, ansible


def _row(ended: list[Ended], version: str) -> dict[str, str]:
    """What became of all rollouts of one release."""
    connections = {kind: sum(item.connections[kind] for item in ended) for kind in ended[0].connections}
    states = Counter(item.state for item in ended)
    return {
        "release": "good" if version == GOOD else "bad",
        "rollouts": str(len(ended)),
        "passed": str(states["passed"]),
        "failed": str(states["failed"]),
        "paused": str(states["paused"]),
        "misplaced after a reconcile": str(sum(item.misplaced for item in ended)),
        "connections": str(sum(connections.values())),
        "refused": str(connections["refused"]),
        "broken": str(connections["broken"]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=40)
    parser.add_argument("--good", type=int, default=4, help="rollouts of a good release")
    parser.add_argument("--bad", type=int, default=2, help="rollouts of a release that loses accuracy")
    parser.add_argument("--connections-lost", type=float, default=0.02, help="share of the connections")
    parser.add_argument("--packets-lost", type=float, default=0.05, help="share of the packets, each way")
    parser.add_argument("--round-trip", type=float, default=0.3, help="seconds")
    options = parser.parse_args()
    program = find_sshd()
    leave_the_machine()
    rows: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="edgeml-links-") as name, ExitStack() as stack:
        link = stack.enter_context(BadLink(options.packets_lost, options.round_trip / 2))
        ssh = stack.enter_context(Sshd(Path(name), *program, enter=link.enter, address=link.address(0)))
        rollouts = LossyRollouts(Path(name), link, ssh, options.devices, options.connections_lost)
        for version, count in ((GOOD, options.good), (BAD, options.bad)):
            ended = []
            for number in range(count):
                ended.append(rollouts.run(version, len(rows) * 1000 + number))
                print(ended[-1], file=sys.stderr, flush=True)
            if ended:
                rows.append(_row(ended, version))
    print("\n".join(text_table(rows)))


if __name__ == "__main__":
    main()
