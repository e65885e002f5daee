# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A variant on its way into a release: what was measured of it, and why it is left out if it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import SCHEMA

from .desk import Measured
from .golden import spreads
from .judgement import Judgement, interval
from .model import RUNTIMES, Model
from .publication import Publication

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_MIB = 1 << 20
# What a variant is said to need beside what it was measured to: other processors' kernels pack weights otherwise.
MEMORY_HEADROOM = 1.25
_ROWS_SHOWN = 5
NEVER_BATCHED = "devices never batch it: its int8 ranges are those of all rows, so a row's answer depends on others"


@dataclass
class Candidate:
    """A variant, what was measured of it, and what became of it. ``refusal`` is why it is not published."""

    kind: str
    model: Model
    measured: Measured | None = None
    emulated: Measured | None = None
    judgement: Judgement | None = None
    metric: float | None = None
    minimum: str = ""
    minimum_why: str = ""
    refusal: str | None = None
    fetched_bytes: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def _made(self) -> list[str]:
        """How it was made, or why it is left out."""
        return [*self.notes, *([self.refusal] if self.refusal else [])] or list(self.model.notes)

    @property
    def known(self) -> Measured:
        """What was measured. Raises ValueError for a variant that was not measured yet."""
        if self.measured is None:
            raise ValueError(f"{self.kind}: nothing was measured yet")
        return self.measured

    @property
    def memory_bytes(self) -> int:
        """What the manifest says that the variant needs."""
        measured = self.measured.memory_bytes if self.measured else 0
        return max(1, math.ceil(measured * MEMORY_HEADROOM / _MIB)) * _MIB

    def row(self) -> dict[str, Any]:
        """What is said of the variant, in numbers: a row of the table of measurements."""
        row: dict[str, Any] = {
            "variant": self.model.name,
            "verdict": self.judgement.verdict.value if self.judgement else "not made",
            "published": self.refusal is None,
            "size": self.model.size or None,
            "notes": [*self._made, *([NEVER_BATCHED] if self.model.couples_rows else [])],
        }
        if self.judgement is not None:
            row["judgement"] = self.judgement.to_dict()
            if self.judgement.worse is not None and self.metric is not None:
                row["interval"] = interval(round(self.metric * self.judgement.samples), self.judgement.samples)
        row["metric"] = self.metric
        if self.measured is not None:
            row["latency_seconds"] = self.measured.latency_seconds
            row["memory_measured"] = self.measured.memory_bytes
            row["memory_bytes"] = self.memory_bytes
            row["runtime"] = self.measured.runtime
            row["architecture"] = self.measured.architecture
        if self.emulated is not None and self.measured is not None:
            apart = spreads(self.emulated.outputs, self.measured.outputs)
            row["aarch64_spread"] = {name: spread.absolute for name, spread in apart.items()}
            row["aarch64_runtime"] = self.emulated.runtime
        row["runtime_minimum"] = self.minimum or None
        row["fetched_bytes"] = self.fetched_bytes
        return row


def manifest_entry(publication: Publication, candidate: Candidate) -> dict[str, Any]:
    """The variant's entry in the manifest, without tolerances."""
    options = publication.options
    entry: dict[str, Any] = {
        "name": candidate.model.name,
        "format": candidate.model.format,
        "architectures": list(options.architectures),
        "runtime": {"name": RUNTIMES[candidate.model.format], "minimum": candidate.minimum or "0"},
        "memory_bytes": candidate.memory_bytes,
        "entrypoint": candidate.model.entrypoint.path,
        "files": [file.entry() for file in candidate.model.files],
    }
    if options.latency_seconds_max is not None:
        entry["latency_seconds_max"] = options.latency_seconds_max
    return entry


def draft(publication: Publication, candidate: Candidate) -> str:
    """Lay out the variant alone, without golden file, as a device's store has it; return its directory."""
    options = publication.options
    entry = manifest_entry(publication, candidate)
    document = {"schema": SCHEMA, "model": options.model, "version": options.version, "variants": [entry]}
    return publication.desk.version(f"draft-{candidate.model.name}", document, candidate.model.name, candidate.model)


def not_finite(measured: Measured, what: str) -> list[str]:
    """Why outputs cannot be judged: those with numbers that are not finite, by name."""
    import numpy as np

    reasons = []
    for name, values in measured.outputs.items():
        if values.dtype.kind != "f":
            continue
        varying = measured.varying.get(name)
        filled = values[0].size - varying.sizes() if varying else 0
        wrong = np.count_nonzero(~np.isfinite(values.reshape(len(values), -1)), axis=1) - filled
        rows = [int(row) for row in np.flatnonzero(wrong)]
        if rows:
            reasons.append(
                f"output {name!r} of {what}: expected finite numbers; found others in {len(rows)} samples, "
                f"such as {', '.join(map(str, rows[:_ROWS_SHOWN]))}"
            )
    return reasons
