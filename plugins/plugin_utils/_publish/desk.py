# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The desk: each version is run here as a device runs it, by the server's own tools, in a process of its own.

The runtime is the one of the Python that the tools run with. As an aarch64 device, a version runs in the device image,
by emulation.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.process import ProcessGroup, TookTooLongError

from .measurements import REFERENCE, Measurements, read_measurement, this_machine
from .model import COLLECTION, Model, PublishError
from .varying import Varying, varying_outputs

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SECONDS_MAX = 3600
_TOOLS = "edgeml_server.tools"
_PACKAGES = {
    "edgeml_device": ("plugins", "module_utils"),
    "edgeml_server": ("roles", "inference_service", "files", "edgeml_server"),
}


class RunFailedError(PublishError):
    """A version does not run; the text has the runtime's reason."""


@dataclass(frozen=True)
class Measured:
    """What a run of the samples showed: their outputs, and what the tool said."""

    said: Mapping[str, Any]
    outputs: Mapping[str, Array] = field(default_factory=dict)

    @property
    def runtime(self) -> str:
        """The name and version of the runtime."""
        return str(self.said["runtime"])

    @property
    def varying(self) -> dict[str, Varying]:
        """The outputs whose sizes vary from sample to sample."""
        return varying_outputs(self.said)

    @property
    def architecture(self) -> str:
        """Of the machine, as ``uname -m`` says."""
        return str(self.said["architecture"])

    @property
    def latency_seconds(self) -> float:
        """The median time of one sample, at one thread."""
        return float(self.said["latency_seconds"])

    @property
    def memory_bytes(self) -> int:
        """By how much the server grows."""
        return int(self.said["memory_bytes"])


@dataclass(frozen=True)
class Place:
    """Where versions run: a command that starts Python, and the path at which Python finds the tools.

    ``told_by`` is what tells the place from others whose measurements differ; "" where none of it is kept.
    """

    architecture: str
    python: Sequence[str]
    python_path: str
    what: str
    told_by: str = ""


class Desk:
    """Runs versions. ``work`` is a directory for what is passed to and fro.

    ``kept`` are the measurements of other publications on this machine: what they measured is not run again.
    ``taken_over`` counts these.
    """

    def __init__(self, work: str, python: str = sys.executable, kept: Measurements | None = None) -> None:
        self.work = work
        self._kept = kept
        self.taken_over = 0
        self.code = os.path.join(work, "code")
        os.mkdir(self.code)
        for name, parts in _PACKAGES.items():
            os.symlink(os.path.join(COLLECTION, *parts), os.path.join(self.code, name))
        self.here = Place(platform.machine(), [python, "-B"], self.code, "this machine", this_machine())

    def elsewhere(self, python: str) -> Place:
        """The same machine, with another Python."""
        return Place(platform.machine(), [python, "-B"], self.code, python)

    def version(self, name: str, document: Mapping[str, Any], variant: str, model: Model, **extra: str) -> str:
        """Lay out a version as a device's store has it; return its directory. ``extra`` are files by their names."""
        directory = os.path.join(self.work, "versions", name)
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        for file in model.files:
            # onnx and ONNX Runtime refuse weights in a file that has a second name.
            _place(file.location, os.path.join(directory, file.path), linked=len(model.files) == 1)
        for path, location in extra.items():
            _place(location, os.path.join(directory, path), linked=True)
        with open(os.path.join(directory, "version.json"), "w", encoding="utf-8") as target:
            json.dump({"release": document, "variant": variant}, target)
        return directory

    def measure(self, directory: str, samples: str | None = None, *, reference: str | None = None) -> Measured:
        """Run the samples (a ``.npz`` file) through a version on this machine. Raises RunFailedError."""
        (found,) = self.measure_all([directory], samples, self.here, reference=reference)
        if isinstance(found, RunFailedError):
            raise found
        return found

    def measure_all(
        self, directories: Sequence[str], samples: str | None, place: Place, *, reference: str | None = None
    ) -> list[Measured | RunFailedError]:
        """Run the samples through versions, in one process: of each, what was measured, or why it does not run.

        What another publication measured is taken from there.
        """
        if self._kept is None or not place.told_by:
            return self._measure_now(directories, samples, place, reference)
        kept = self._kept
        keys = [
            kept.key(self.code, place.told_by, directory, samples, reference is not None) for directory in directories
        ]
        results = {key: _read_kept(path, reference) for key in keys if (path := kept.get(key)) is not None}
        self.taken_over += len(results)
        left = [(key, directory) for key, directory in zip(keys, directories, strict=True) if key not in results]
        if left:
            measured = self._measure_now([directory for _key, directory in left], samples, place, reference)
            for (key, _directory), found in zip(left, measured, strict=True):
                results[key] = found
                if isinstance(found, Measured):
                    kept.put(key, found.said, found.outputs, reference)
        return [results[key] for key in keys]

    def _measure_now(
        self, directories: Sequence[str], samples: str | None, place: Place, reference: str | None
    ) -> list[Measured | RunFailedError]:
        import numpy as np

        with tempfile.TemporaryDirectory(dir=self.work) as outputs:
            arguments = [*directories]
            if samples is not None:
                arguments += ["--samples", samples, "--outputs", outputs]
            if reference is not None:
                arguments += ["--reference", reference]
            results: list[Measured | RunFailedError] = []
            for number, said in enumerate(self._run("measure", arguments, place, len(directories))):
                if isinstance(said, RunFailedError):
                    results.append(said)
                    continue
                found: dict[str, Array] = {}
                if samples is not None:
                    with np.load(os.path.join(outputs, f"{number}.npz"), allow_pickle=False) as archive:
                        found = {name: archive[name] for name in archive.files}
                results.append(Measured(said, found))
        return results

    def smoke(self, directory: str, place: Place | None = None) -> Mapping[str, Any]:
        """Run the smoke test that a device runs. Raises RunFailedError with the reason that it would give."""
        (said,) = self._run("smoke", [directory], place or self.here, 1)
        if isinstance(said, RunFailedError):
            raise said
        return said

    def smoke_all(self, directories: Sequence[str]) -> list[Mapping[str, Any] | RunFailedError]:
        """Run the smoke tests of versions on this machine, in one process: of each, what it says, or why it failed."""
        return self._run("smoke", directories, self.here, len(directories))

    def _run(
        self, tool: str, arguments: Sequence[str], place: Place, count: int
    ) -> list[Mapping[str, Any] | RunFailedError]:
        """Start a tool, and return what it says of each of ``count`` versions; of the one that ended it, how."""
        command = [*place.python, "-m", f"{_TOOLS}.{tool}", *arguments]
        environment = {**os.environ, "PYTHONPATH": place.python_path}
        try:
            with ProcessGroup(command, env=environment, cwd=self.work) as process:
                code, stdout, stderr = process.outcome(SECONDS_MAX)
        except TookTooLongError as error:
            return [RunFailedError(f"{place.what}: {error}")] * count
        except OSError as error:
            return [RunFailedError(f"{place.what}: cannot be started: {error}")] * count
        results: list[Mapping[str, Any] | RunFailedError] = []
        for line in stdout.splitlines()[:count]:
            try:
                said = json.loads(line)
            except ValueError:
                break
            if not isinstance(said, dict):
                break
            if "error" in said:
                reason = str(said["error"]).strip().replace(os.path.join(self.work, "versions", ""), "")
                results.append(RunFailedError(reason))
            else:
                results.append(said)
        if len(results) < count:
            ended = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with code {code}"
            lines = stderr.strip().splitlines()[-1:] or ["nothing"]
            failure = RunFailedError(f"{place.what}: the runtime ended {ended} and said: {lines[0][:300]}")
            results += [failure] * (count - len(results))
        return results


def _read_kept(path: str, reference: str | None) -> Measured | RunFailedError:
    """A measurement of before; its drift reference goes to ``reference``."""
    kept = os.path.join(path, REFERENCE)
    if reference is not None and os.path.exists(kept):
        shutil.copyfile(kept, reference)
    return Measured(*read_measurement(path))


def _place(location: str, target: str, *, linked: bool) -> None:
    """Have a file under another name: as a hard link where that can be, for the emulated device sees no other paths."""
    if linked:
        try:
            os.link(os.path.realpath(location), target)
            return
        except OSError:
            pass  # On another file system.
    shutil.copyfile(location, target)
