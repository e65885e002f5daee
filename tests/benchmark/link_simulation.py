# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How often a link is taken for the version: rollouts over simulated links that lose connections, or are gone.

Time and links are simulated, so that the truth is known and thousands of rollouts are cheap. What plans the waves,
tries a connection again, judges a wave and decides what follows is the collection's own code. Nothing of the version is
judged but whether its devices are heard from.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from ansible.errors import AnsibleConnectionFailure
from clone import REPOSITORY
from rollouts import UNMEASURED

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.plugin_utils import _call
from ansible_collections.edgeml.fleet.plugins.plugin_utils._links import patiently
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import judging
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next, after_verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import DeviceOptions, RolloutOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import MAY_HOLD_NEW_VERSION, Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import plan, read_hosts

OLD, NEW = "1.0.0", "1.1.0"
WAVES = ["25%", "100%"]
# OpenSSH as Ansible runs it gives the connection and the greeting so long.
CONNECT_SECONDS = 10.0
# Round trips before a command runs: TCP and the greeting, within CONNECT_SECONDS; then keys, login, channel.
GREETING_TRIPS, LOGIN_TRIPS = 2, 6
# TCP sends a packet again after this and then twice as long (RFC 6298: at first one second).
RESENT_SECONDS = 1.0
CONTROL_RETRY_SECONDS = 15.0
RECONCILE_AFTER_SECONDS = 600.0
SITE_DEVICES = 10


@dataclass(frozen=True)
class Links:
    """What links are like: the shares of connections and of packets (one way) that are lost, the seconds of a round
    trip; and the share of the time that one is gone, for how many seconds on average, and whether all devices of a site
    share that."""

    name: str
    connections_lost: float = 0.02
    packets_lost: float = 0.05
    round_trip: float = 0.3
    gone: float = 0.0
    gone_seconds: float = 60.0
    by_site: bool = False


KINDS = (
    Links("2% of connections, 5% of packets lost, 300 ms"),
    Links("10% of connections, 10% of packets lost, 600 ms", 0.1, 0.1, 0.6),
    Links("the first, and a link is gone 1% of the time, for 1 min", gone=0.01),
    Links("the first, and a link is gone 1% of the time, for 10 min", gone=0.01, gone_seconds=600),
    Links("the first, and a site is gone 1% of the time, for 10 min", gone=0.01, gone_seconds=600, by_site=True),
)


class _Failure(AnsibleConnectionFailure):
    """A connection that failed; ``began``: after the command had begun."""

    def __init__(self, message: str, began: bool = False) -> None:
        super().__init__(message)
        self.began = began


class Link:
    """The link of one device, or of one site, over the hours of a rollout."""

    def __init__(self, chance: random.Random, kind: Links) -> None:
        self._gone: list[tuple[float, float]] = []
        if not kind.gone:
            return
        up_seconds = kind.gone_seconds * (1 - kind.gone) / kind.gone
        now = 0.0 if chance.random() < kind.gone else chance.expovariate(1 / up_seconds)
        while now < 24 * 3600:
            until = now + chance.expovariate(1 / kind.gone_seconds)
            self._gone.append((now, until))
            now = until + chance.expovariate(1 / up_seconds)

    def is_gone(self, now: float) -> bool:
        """Whether nothing comes through."""
        return any(start <= now < end for start, end in self._gone)


class Device:
    """A device behind a link; ``active`` is the version that it is really on."""

    def __init__(self, chance: random.Random, kind: Links, link: Link) -> None:
        self._chance = chance
        self._kind = kind
        self._link = link
        self.active = OLD

    def call(
        self, module: str, began: float, retry_seconds: float, command: Callable[[], None]
    ) -> tuple[Mapping[str, Any], float]:
        """The result of a module that does ``command``, and when it ended."""
        now = began
        reached = False

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds

        def attempt() -> None:
            nonlocal now, reached
            try:
                now += self._connect(now)
                command()
                if self._chance.random() < self._kind.connections_lost / 2:
                    raise _Failure("client_loop: send disconnect: Broken pipe", began=True)
            except _Failure as error:
                reached = reached or error.began
                now += 0.0 if error.began else min(CONNECT_SECONDS, 1.0)
                raise

        try:
            patiently(
                attempt,
                retry_seconds,
                "device",
                lambda: now,
                sleep,
                away_seconds=_call.away_seconds(module, retry_seconds),
            )
        except _Failure as error:
            return {"unreachable": True, "started": reached, "msg": str(error)}, now
        return {"changed": True, "version": NEW, "model": {"live": self.active, "replaced": OLD}}, now

    def _connect(self, now: float) -> float:
        """The seconds until a command runs. Raises _Failure."""
        if self._link.is_gone(now):
            raise _Failure("ssh: connect to host 198.18.0.1 port 22: Connection timed out")
        if self._chance.random() < self._kind.connections_lost / 2:
            raise _Failure("kex_exchange_identification: Connection closed by remote host")
        greeting = self._trips(GREETING_TRIPS)
        if greeting > CONNECT_SECONDS:
            raise _Failure("Connection timed out during banner exchange")
        return greeting + self._trips(LOGIN_TRIPS)

    def _trips(self, number: int) -> float:
        seconds = 0.0
        for _trip in range(number):
            wait = RESENT_SECONDS
            while self._chance.random() < 1 - (1 - self._kind.packets_lost) ** 2:
                seconds += wait
                wait *= 2
            seconds += self._kind.round_trip
        return seconds


@dataclass(frozen=True)
class Ended:
    """How a rollout ended: its last verdict, and how many devices one reconcile left where they should not be."""

    verdict: Verdict
    misplaced: int


class Rollout:
    """One rollout to ``count`` devices, whose connections are tried again for ``retry_seconds``."""

    def __init__(self, seed: int, count: int, kind: Links, retry_seconds: float, options: RolloutOptions) -> None:
        chance = random.Random(seed)
        names = [f"edge-{number:03}" for number in range(count)]
        sites = [Link(chance, kind) for _site in range(0, count, SITE_DEVICES)]
        self._devices = {
            name: Device(chance, kind, sites[number // SITE_DEVICES] if kind.by_site else Link(chance, kind))
            for number, name in enumerate(names)
        }
        self._plan = plan(read_hosts(dict.fromkeys(names, "small")), WAVES, f"salt-{seed}")
        self._retry = retry_seconds
        self._options = options
        self._now = chance.uniform(0, 3600)

    def run(self, bad: bool) -> Ended:
        """Roll a release out. One that is ``bad`` fails its first wave, whatever is heard from its devices."""
        earlier: dict[str, Outcome] = {}
        verdict = Verdict.PASS
        for wave, controls in zip(self._plan.waves, self._plan.controls, strict=True):
            verdict, outcomes = self._wave(list(wave.hosts), list(controls.values()), earlier)
            earlier.update(outcomes)
            if bad:
                verdict = Verdict.FAIL
            if verdict is not Verdict.PASS:
                break
        expected = OLD if verdict is Verdict.FAIL else NEW
        if verdict is Verdict.FAIL:
            self._switch([name for name, outcome in earlier.items() if outcome in MAY_HOLD_NEW_VERSION], OLD)
        self._now += RECONCILE_AFTER_SECONDS
        planned = list(earlier)
        self._switch(planned, expected)
        return Ended(verdict, sum(self._devices[name].active == NEW for name in planned) if expected == OLD else 0)

    def _wave(
        self, hosts: Sequence[str], controls: Sequence[str], earlier: Mapping[str, Outcome]
    ) -> tuple[Verdict, Mapping[str, Outcome]]:
        before = self._read(controls, CONTROL_RETRY_SECONDS)
        swaps = self._switch(hosts, NEW)
        analysis = 0
        while True:
            analysis += 1
            self._now += self._options.soak_seconds
            measured = judging.Measured(
                device_classes=dict.fromkeys(self._devices, "small"),
                version=NEW,
                swaps=swaps,
                reads=self._read(hosts, self._retry),
                before=before,
                after=self._read(controls, CONTROL_RETRY_SECONDS),
                earlier=earlier,
            )
            judged = judging.judge(
                measured, judging.read_limits(UNMEASURED), analysis=analysis, analyses_max=self._options.analyses_max
            )
            if after_verdict(judged.verdict, analysis, self._options.analyses_max) is not Next.SOAK_AGAIN:
                return judged.verdict, judged.outcomes

    def _read(self, names: Sequence[str], seconds: float) -> dict[str, Mapping[str, Any]]:
        return self._all(names, "model_info", seconds, lambda _device: None)

    def _switch(self, names: Sequence[str], version: str) -> dict[str, Mapping[str, Any]]:
        def switch(device: Device) -> None:
            device.active = version

        return self._all(names, "model_swap", self._retry, switch)

    def _all(
        self, names: Sequence[str], module: str, seconds: float, command: Callable[[Device], None]
    ) -> dict[str, Mapping[str, Any]]:
        """Call all of them at once; time goes on to the last one's end."""
        results, ends = {}, [self._now]
        for name in names:
            device = self._devices[name]
            results[name], end = device.call(module, self._now, seconds, functools.partial(command, device))
            ends.append(end)
        self._now = max(ends)
        return results


def _row(kind: Links, patient: bool, devices: int, runs: int, seed: int) -> dict[str, str]:
    options = RolloutOptions()
    retry_seconds = DeviceOptions().device_silence_seconds
    if not patient:
        options, retry_seconds = dataclasses.replace(options, soak_seconds_max=options.soak_seconds), 0
    found: dict[bool, list[Ended]] = {bad: [] for bad in (False, True)}
    for bad, ended in found.items():
        for run in range(runs):
            # What says that a connection is tried again would fill the screen.
            with redirect_stderr(io.StringIO()):
                ended.append(Rollout(seed * 1_000_003 + run, devices, kind, retry_seconds, options).run(bad))
    aborts = sum(item.verdict is Verdict.FAIL for item in found[False])
    pauses = sum(item.verdict is Verdict.INCONCLUSIVE for item in found[False])
    everything = [*found[False], *found[True]]
    return {
        "links": kind.name,
        "asked": "again" if patient else "once",
        "runs": str(runs),
        "false aborts": f"{100 * aborts / runs:.1f}%",
        "pauses": f"{100 * pauses / runs:.1f}%",
        "reverts": str(sum(item.verdict is Verdict.FAIL for item in everything)),
        "misplaced": str(sum(item.misplaced > 0 for item in everything)),
    }


def main() -> None:
    """Simulate and print."""
    name = str(Path(__file__).resolve().relative_to(REPOSITORY))
    parser = argparse.ArgumentParser(prog=f"python {name}", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="rollouts of a good release, and of a bad one, per row")
    parser.add_argument("--devices", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for kind in KINDS:
        for patient in (False, True):
            rows.append(_row(kind, patient, options.devices, options.runs, options.seed))
            print(rows[-1], file=sys.stderr, flush=True)
    print("\n".join(text_table(rows)))


if __name__ == "__main__":
    main()
