# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the gate reads of one observation: a count, or the logarithm of a quantity. Pure."""

from __future__ import annotations

import math
from typing import Callable

from .checks import DEGREES
from .measurements import Observation
from .proportions import NO_COUNT, Count

# Requests that a device needs in either period for a quantile of their latency.
P50_REQUESTS_MIN = 20
P95_REQUESTS_MIN = 100


def counted_errors(observation: Observation) -> Count:
    """Return how many requests failed."""
    found = observation.requests
    return Count(found.errors, found.requests) if found else NO_COUNT


def counted_wrong_labels(observation: Observation) -> Count:
    """Return how many predictions were wrong by the labels that came back."""
    found = observation.labels
    return Count(found.wrong, found.right + found.wrong) if found else NO_COUNT


def counted_disagreements(observation: Observation) -> Count:
    """Return how many rows of copied requests the shadow did not answer like the active version.

    The rows of one request may be alike, such as the frames of one scene: they come together.
    """
    found = observation.shadow
    if found is None:
        return NO_COUNT
    # The server counts rows and requests one after the other, and may be read between.
    return Count(found.disagreed + found.failed, found.rows, together=max(found.rows / max(found.requests, 1), 1.0))


def counted_drift(observation: Observation) -> Count:
    """Return whether there is a drift alarm: one device counts once."""
    return NO_COUNT if observation.drift_alarms is None else Count(bool(observation.drift_alarms), 1)


def quantile(share: float, requests_min: int) -> Callable[[Observation], float | None]:
    """Return what reads the logarithm of a quantile of the time of requests, if there were enough of them."""

    def measure(observation: Observation) -> float | None:
        found = observation.requests
        return found.quantile(share) if found is not None and found.timed >= requests_min else None

    return measure


def log_energy(observation: Observation) -> float | None:
    """Return the logarithm of the energy of a request, if there were enough of them."""
    board = observation.board
    if board is None or (board.requests or 0) < P50_REQUESTS_MIN:
        return None
    return math.log(board.joules_per_request) if board.joules_per_request else None


def log_slowness(observation: Observation) -> float | None:
    """Return how much slower than their highest clock the processors run, as a logarithm."""
    return -math.log(observation.board.clock) if observation.board and observation.board.clock else None


def temperature(observation: Observation) -> float | None:
    """Return the temperature in steps of ``DEGREES``."""
    board = observation.board
    return board.celsius / DEGREES if board is not None and board.celsius is not None else None


def log_probe_seconds(observation: Observation) -> float | None:
    """Return the logarithm of the time of a batch of the probe set."""
    probe = observation.probe
    return math.log(probe.latency_seconds) if probe is not None and probe.latency_seconds else None


def log_memory(observation: Observation) -> float | None:
    """Return the logarithm of the server's resident memory."""
    return math.log(observation.resident_bytes) if observation.resident_bytes else None
