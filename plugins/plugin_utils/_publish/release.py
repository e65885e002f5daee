# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""From a trained model to a release: convert, prove, measure, publish. ``publish_release`` is the whole of it.

The order: read the inputs, compare them with what is published, run the source, prove the conversion, make and judge
the variants, write golden file and probe set, test each variant as a device does, publish.
"""

from __future__ import annotations

import datetime
import math
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import (
    EdgemlError,
    IncompatibleError,
    ManifestError,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import (
    SCHEMA,
    Release,
    choose_variant,
    parse_release,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import ProbeSetError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from . import emulation, golden, provenance, runtimes, variants
from .desk import Desk, Measured, Place, RunFailedError
from .golden import Probe, Spread, spreads
from .judgement import Judgement, Verdict, interval, is_better_than_guessing, judge
from .model import RUNTIMES, Model, ModelFile, Progress, PublishError, RefusedError, file_of
from .options import ReleaseOptions
from .samples import Samples, fitted, read_samples, write_inputs
from .source import RECIPE, Source, read_source, run_recipe
from .writer import publish

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_MIB = 1 << 20
# What a variant is said to need beside what it was measured to: other processors' kernels pack weights otherwise.
MEMORY_HEADROOM = 1.25
# A golden tolerance is this many times the spread that was measured, and at least this part of the largest output.
SPREAD_FACTOR = 2.0
LEAST_TOLERANCE = {"fp32": 1e-5, "fp16": 1e-3, "int8": 1e-2, "int8-dynamic": 1e-2}
# How often layers go back to float, twice as many each time.
RESCUES_MAX = 5
_ROWS_SHOWN = 5


@dataclass
class Made:
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


@dataclass(frozen=True)
class Published:
    """What became of a publication. ``changed``: the release was not there before (in check mode: would not be)."""

    changed: bool
    document: Mapping[str, Any]
    digest: str
    table: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]
    notes: Sequence[str] = ()


def publish_release(options: ReleaseOptions, progress: Progress, *, check: bool = False) -> Published:
    """Publish a release, or with ``check`` do all but write it. Raises RefusedError with every reason; EdgemlError."""
    with tempfile.TemporaryDirectory(prefix="edgeml-publish-") as work:
        return _Publication(options, progress, work).run(check=check)


class _Publication:
    def __init__(self, options: ReleaseOptions, progress: Progress, work: str) -> None:
        self.options = options
        self.progress = progress
        self.work = work
        self.desk = Desk(work)
        self.reasons: list[str] = []
        self.notes: list[str] = []
        self.created = options.created or _now()
        self.started = _now()
        self.emulated_place: Place | None = None

    def run(self, *, check: bool) -> Published:
        self.progress.step(f"{self.options.model} {self.options.version}: reading {self.options.samples}")
        samples_file = self._file(self.options.samples, "samples")
        source_file = self._file(self.options.source, "source")
        calibration_file = self._file(self.options.calibration, "calibration") if self.options.calibration else None
        given = {"source": source_file, "samples": samples_file, "calibration": calibration_file}
        existing = self._existing(given)
        if existing is not None:
            return existing
        raw = read_samples(self.options.samples, missing_values=self.options.missing_values)
        source = self._source(raw)
        self._find_emulation(source.model)
        first, samples = self._run_source(source, raw)
        wanted = self._wanted(first, samples, source)
        probe = self._probe(samples, wanted)
        self._judge_source(probe, wanted)
        made = list(self._variants(first, probe, wanted, samples))
        self._run_emulated(made)
        self._require(made)
        passed = [item for item in made if item.refusal is None]
        if not passed or self.reasons:
            raise RefusedError(self.reasons or ["no variant passed"], [self._row(item) for item in made])
        for item in passed:
            self._find_minimum(item)
        self._refuse_if_any()
        document, locations = self._document(passed, probe, wanted, samples, source, given)
        self._check_devices(document)
        self._refuse_if_any()
        self._test_as_devices_do(document, passed, locations)
        self._refuse_if_any()
        self._count_bytes_to_fetch(document, passed)
        changed = True
        if not check:
            self.progress.step(f"publishing into {self.options.repository}")
            changed = publish(self.options.repository, document, locations)
        release = parse_release(document)
        facts = self._facts(probe, samples, wanted, source)
        table = [self._row(item) for item in made]
        return Published(changed, document, release.digest, table, facts, tuple(self.notes))

    # ---- what is there ----

    def _file(self, path: str, name: str) -> ModelFile:
        try:
            return file_of(path)
        except OSError as error:
            raise RefusedError([f"{name}: {path}: expected a file; {error.strerror}"]) from error

    def _existing(self, given: Mapping[str, ModelFile | None]) -> Published | None:
        """The release, if it is published and was made from the same. Raises RefusedError if from something else."""
        repository = Repository(self.options.repository)
        path = os.path.join(self.options.repository, self.options.model, self.options.version, "manifest.json")
        if not os.path.exists(path):
            return None
        release = repository.release(self.options.model, self.options.version)
        repository.verify(release)
        name = f"{release.model} {release.version}"
        before = release.documents.get("provenance")
        if before is None:
            raise RefusedError([f"{name} is published, by something else than this command; publish another version"])
        differences = provenance.differences(
            repository.read_blob(before), self.options.to_dict(), ReleaseOptions().to_dict(), given
        )
        if differences:
            reasons = [f"{name} is published, and a release never changes; publish another version", *differences]
            raise RefusedError(reasons)
        self.progress.step(f"{name} is published, from the same source, samples and options: nothing to do")
        return Published(False, release.document, release.digest, [], {})

    # ---- source ----

    def _source(self, raw: Samples) -> Source:
        if not self.options.source.endswith(RECIPE):
            return read_source(self.options.source)

        self.progress.step(f"running the recipe {self.options.source}")
        directory = os.path.join(self.work, "recipe")
        inputs = os.path.join(self.work, "recipe-inputs.npz")
        write_inputs(inputs, raw.inputs)
        return run_recipe(self.options.source, directory, python=self.options.recipe_python, samples=inputs)

    def _find_emulation(self, model: Model) -> None:
        if "aarch64" not in self.options.architectures or self.desk.here.architecture == "aarch64":
            return
        self.progress.step("looking for an emulated aarch64 device")
        place, why = emulation.find(self.options.device_image, self.work, model.format)
        self.emulated_place = place
        if place is None:
            self.notes.append(f"not run as aarch64: {why}")

    def _run_source(self, source: Source, raw: Samples) -> tuple[Made, Samples]:
        """Run the source's own file on all samples: it is the first variant."""

        model = source.model
        named = Model(f"{model.format}-fp32", model.format, model.files, model.notes)
        self.progress.step(f"running the source on {raw.rows} samples")
        item = Made("fp32", named)
        directory = self._draft(item)
        try:
            described = self.desk.measure(directory)
            samples = fitted(raw, described.said["inputs"])
            self.samples_path = os.path.join(self.work, "samples.npz")
            write_inputs(self.samples_path, samples.inputs)
            self.reference_path = os.path.join(self.work, "reference.json")
            item.measured = self.desk.measure(directory, self.samples_path, reference=self.reference_path)
        except RunFailedError as error:
            raise RefusedError([f"the source does not run: {error}"]) from error
        for name, values in item.measured.outputs.items():
            self._check_finite(name, values, "the source")
        self._refuse_if_any()
        return item, samples

    def _wanted(self, first: Made, samples: Samples, source: Source) -> dict[str, Array]:
        """The right outputs: those of the source framework where they are known, else of the source's file.

        A converted file that computes something else is refused, with the rows that differ.
        """
        measured = first.known
        reference = {**source.reference, **samples.reference}
        wanted = dict(measured.outputs)
        for name, values in reference.items():
            if not name and len(wanted) == 1:
                name = next(iter(wanted))
            if name not in wanted:
                raise RefusedError([f"reference: expected outputs of the model, {', '.join(wanted)}; found {name!r}"])
            self._compare(name, values, wanted[name], measured.said["batch_spread"].get(name, 0.0))
            if not self.reasons:
                wanted[name] = _like(values, wanted[name])
        if not reference:
            self.notes.append("no reference outputs: nothing says that the source's file computes what was trained")
        self._refuse_if_any()
        return wanted

    def _compare(self, name: str, expected: Array, found: Array, batch_spread: float) -> None:
        """Refuse outputs that are not those of the source framework."""
        import numpy as np

        if expected.shape != found.shape:
            if expected.size != found.size or len(expected) != len(found):
                self.reasons.append(
                    f"conversion: output {name!r}: expected the shape {list(expected.shape)}; found {list(found.shape)}"
                )
                return
            expected = expected.reshape(found.shape)
        if found.dtype.kind == "f" and expected.dtype.kind in "fiu":
            wide = expected.astype(np.float64)
            allowed = self.options.conversion_absolute + self.options.conversion_relative * np.abs(wide)
            allowed = np.maximum(allowed, 10 * batch_spread)
            with np.errstate(invalid="ignore"):
                difference = np.abs(found.astype(np.float64) - wide)
            same = (difference <= allowed) | (np.isnan(wide) & np.isnan(found))
        else:
            same = np.asarray(expected.astype(str) == found.astype(str))
        if same.all():
            return
        rows = sorted({int(place[0]) for place in np.argwhere(~same)})
        examples = []
        for row in rows[:_ROWS_SHOWN]:
            at = (row, *(int(index) for index in np.argwhere(~same[row])[0])) if same.ndim > 1 else (row,)
            examples.append(f"sample {row}: expected {expected[at]!s}, found {found[at]!s}")
        self.reasons.append(
            f"conversion: output {name!r} is not what the source framework computes, in {len(rows)} of {len(same)} "
            f"samples: {'; '.join(examples)}"
        )

    def _check_finite(self, name: str, values: Array, what: str) -> None:
        import numpy as np

        if values.dtype.kind == "f" and not np.isfinite(values).all():
            rows = sorted({int(place[0]) for place in np.argwhere(~np.isfinite(values))})
            self.reasons.append(
                f"output {name!r} of {what}: expected finite numbers; found others in {len(rows)} samples, "
                f"such as {', '.join(map(str, rows[:_ROWS_SHOWN]))}"
            )

    def _probe(self, samples: Samples, wanted: Mapping[str, Array]) -> Probe:
        settings = {"task": self.options.task, "metric": self.options.metric}
        try:
            return golden.make_probe(samples, wanted, self.work, output=self.options.output, settings=settings)
        except ProbeSetError as error:
            raise RefusedError([f"samples: {error}"]) from error

    def _judge_source(self, probe: Probe, wanted: Mapping[str, Array]) -> None:
        """Refuse a source that the labels contradict: no proof of a variant is worth anything then."""
        result, value = probe.scores(wanted)
        self.source_result, self.source_metric = result, value
        if value is None:
            self.reasons.append("the source answers no sample with a finite number")
            return
        labels = Counter(probe.probe_set.labels) if probe.probe_set.label_values == 1 else Counter()
        if not is_better_than_guessing(result, value, labels):
            most = max(labels.values()) / sum(labels.values())
            self.reasons.append(
                f"labels: the source is right in {value:.4f} of {result.samples} samples, and always giving the most "
                f"frequent label is right in {most:.4f}: the labels are not those of these samples, or the inputs are "
                "not prepared as in training"
            )
        least = self.options.accuracy_min
        if least is not None and (value > least if probe.metric.is_error else value < least):
            self.reasons.append(f"accuracy_min: expected {probe.metric.value} {least:g}; found {value:g}")

    # ---- variants ----

    def _variants(self, first: Made, probe: Probe, wanted: Mapping[str, Array], samples: Samples) -> Iterator[Made]:
        directory = os.path.join(self.work, "variants")
        os.mkdir(directory)
        for kind in self.options.variants:
            if kind == "fp32":
                self._judge(first, probe)
                yield first
                continue
            if first.model.format != "onnx" or not first.model.entrypoint.path.endswith(".onnx"):
                self.reasons.append(
                    f"{kind}: expected a source .onnx to make it from; found {first.model.entrypoint.path}"
                )
                continue
            try:
                item = self._smaller(kind, first.model, directory, probe, samples)
            except (variants.NothingToDoError, RunFailedError) as error:
                item = Made(kind, Model(f"onnx-{kind}", "onnx", ()), refusal=str(error))
            yield item

    def _smaller(self, kind: str, source: Model, directory: str, probe: Probe, samples: Samples) -> Made:
        if kind == "int8":
            return self._int8(source, directory, probe, samples)
        self.progress.step(f"making {kind}")
        item = Made(kind, (variants.float16 if kind == "fp16" else variants.int8_dynamic)(source, directory))
        self._measure(item)
        self._judge(item, probe)
        return item

    def _int8(self, source: Model, directory: str, probe: Probe, samples: Samples) -> Made:
        """Make int8 with as few layers in float as it takes."""
        quantiser = variants.StaticQuantiser(source, directory)
        calibrating = samples.inputs
        if self.options.calibration:
            raw = read_samples(self.options.calibration, missing_values=self.options.missing_values)
            specs = [
                {"name": name, "datatype": golden.datatype_of(values), "shape": [-1, *values.shape[1:]]}
                for name, values in samples.inputs.items()
            ]
            calibrating = fitted(raw, specs).inputs
        count = min(self.options.calibration_samples, len(next(iter(calibrating.values()))))
        self.progress.step(f"calibrating int8 by {count} samples")
        calibration = quantiser.calibrate(calibrating, count, samples.inputs)
        tensor, share = calibration.largest_cut_off
        cut_off = f"{share:.2%} of the holdout's values are cut off in {tensor}" if share else "nothing is cut off"
        left = 0
        layers: list[str] = []
        tried: list[str] = []
        while True:
            self.progress.step(f"making int8{f', {left} layers in float' if left else ''}")
            item = Made("int8", quantiser.quantise(layers[:left]))
            item.notes = [*item.model.notes, cut_off, *tried]
            self._measure(item)
            self._judge(item, probe)
            if item.refusal is None or left >= len(quantiser.layers) - 1 or len(tried) >= RESCUES_MAX:
                return item
            if item.judgement is not None and item.judgement.verdict is Verdict.TOO_SMALL and not item.judgement.worse:
                return item  # No layer in float changes what the holdout cannot tell.
            tried.append(f"with {left or 'no'} layers in float: {item.refusal}")
            layers = layers or quantiser.worst_layers(item.model, calibrating)
            left = min(max(1, 2 * left), len(layers) - 1)
            if left < 1:
                return item

    def _measure(self, item: Made) -> None:
        item.measured = self.desk.measure(self._draft(item), self.samples_path)

    def _judge(self, item: Made, probe: Probe) -> None:
        before = len(self.reasons)
        for name, values in item.known.outputs.items():
            self._check_finite(name, values, item.model.name)
        if len(self.reasons) > before:
            item.refusal = "; ".join(self.reasons[before:])
            del self.reasons[before:]
            return
        result, item.metric = probe.scores(item.known.outputs)
        item.judgement = judge(
            self.source_result,
            result,
            drop_max=self.options.accuracy_drop_max,
            increase_max=self.options.error_increase_max,
        )
        if item.judgement.verdict is not Verdict.PASS:
            item.refusal = _words(item.judgement)

    def _run_emulated(self, made: Sequence[Made]) -> None:
        """Run the variants that pass as aarch64, in one process: it takes long to begin."""
        passed = [item for item in made if item.refusal is None]
        if self.emulated_place is None or not passed:
            return
        self.progress.step(f"running {', '.join(item.model.name for item in passed)} as aarch64, emulated")
        directories = [self._draft(item) for item in passed]
        for item, found in zip(
            passed, self.desk.measure_all(directories, self.samples_path, self.emulated_place), strict=True
        ):
            if isinstance(found, RunFailedError):
                item.refusal = f"as aarch64: {found}"
            else:
                item.emulated = found

    def _require(self, made: Sequence[Made]) -> None:
        """Refuse the release where a variant that it needs does not pass."""
        required = set(self.options.required_variants)
        passed = [item for item in made if item.refusal is None]
        for item in made:
            if item.refusal is None:
                continue
            if item.kind in required or not passed:
                self.reasons.append(f"{item.model.name}: {item.refusal}")
            else:
                self.notes.append(f"{item.model.name} is left out: {item.refusal}")

    def _find_minimum(self, item: Made) -> None:
        """The oldest runtime: by the file, and by each that can be tried."""
        item.minimum, item.minimum_why = runtimes.declared_minimum(item.model)
        directory = self._draft(item)
        tried: dict[str, str | None] = {}
        for python in self.options.runtime_pythons:
            place = self.desk.elsewhere(python)
            try:
                said = self.desk.smoke(directory, place)
                tried[str(said["runtime"]).split()[-1]] = None
            except RunFailedError as error:
                try:
                    version = emulation.runtime_version(python, RUNTIMES[item.model.format])
                except PublishError as unknown:
                    self.reasons.append(f"runtime_pythons: {unknown}")
                    continue
                tried[version] = str(error)
        for version in sorted(tried, key=runtimes.version_key, reverse=True):
            if tried[version] is not None:
                later = [other for other in tried if runtimes.version_key(other) > runtimes.version_key(version)]
                if runtimes.version_key(item.minimum) <= runtimes.version_key(version) and later:
                    item.minimum = min(later, key=runtimes.version_key)
                    item.minimum_why = f"{version} was tried and does not load it"
                break
            if runtimes.version_key(version) < runtimes.version_key(item.minimum):
                item.minimum, item.minimum_why = version, "tried"
        oldest = self.options.runtime_minimum
        if item.minimum.startswith("above") or (
            oldest is not None and runtimes.version_key(item.minimum) > runtimes.version_key(oldest)
        ):
            self.reasons.append(
                f"{item.model.name}: needs {RUNTIMES[item.model.format]} {item.minimum} ({item.minimum_why}); "
                f"expected {oldest or 'a version that is known'} or earlier. "
                "Export it with an older opset and IR version"
            )

    # ---- the release ----

    def _draft(self, item: Made) -> str:
        """A version directory of one variant, without golden file."""
        entry = self._entry(item)
        document = {"schema": SCHEMA, "model": self.options.model, "version": self.options.version, "variants": [entry]}
        return self.desk.version(f"draft-{item.model.name}", document, item.model.name, item.model)

    def _entry(self, item: Made) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "name": item.model.name,
            "format": item.model.format,
            "architectures": list(self.options.architectures),
            "runtime": {"name": RUNTIMES[item.model.format], "minimum": item.minimum or "0"},
            "memory_bytes": item.memory_bytes,
            "entrypoint": item.model.entrypoint.path,
            "files": [file.entry() for file in item.model.files],
        }
        if self.options.latency_seconds_max is not None:
            entry["latency_seconds_max"] = self.options.latency_seconds_max
        return entry

    def _document(
        self,
        passed: Sequence[Made],
        probe: Probe,
        wanted: Mapping[str, Array],
        samples: Samples,
        source: Source,
        given: Mapping[str, ModelFile | None],
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The manifest, and where each of its files is."""
        import numpy as np

        agreed = np.ones(samples.rows, bool)
        for item in passed:
            for measured in filter(None, (item.measured, item.emulated)):
                for name, values in wanted.items():
                    if values.dtype.kind != "f":
                        same = np.asarray(values.astype(str) == measured.outputs[name].astype(str))
                        agreed &= same.reshape(len(same), -1).all(axis=1)
        rows = golden.golden_rows(
            samples.inputs, [int(row) for row in np.flatnonzero(agreed)], self.options.golden_rows
        )
        if not rows:
            raise RefusedError(["golden file: the variants agree on no sample"])
        locations: dict[str, str] = {}

        def blob(path: str, content: bytes) -> dict[str, Any]:
            place = os.path.join(self.work, f"blob-{len(locations)}")
            with open(place, "wb") as file:
                file.write(content)
            described = file_of(place, path)
            locations[described.sha256] = place
            return described.entry()

        entries = []
        for item in passed:
            entry = self._entry(item)
            entry["tolerances"] = self._tolerances(item, wanted, rows)
            locations.update({file.sha256: file.location for file in item.model.files})
            entries.append(entry)
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "model": self.options.model,
            "version": self.options.version,
            "created": self.created,
            "description": self.options.description,
            "variants": entries,
            "golden": blob("golden.json", self._golden_file(samples, wanted, rows)),
            "probe": blob(probe.path, probe.content),
        }
        if self.options.drift_reference:
            with open(self.reference_path, "rb") as file:
                document["reference"] = blob("reference.json", file.read())
        subjects = [file for item in passed for file in item.model.files]
        statement = provenance.statement(
            self.options.to_dict(), given, source, subjects, started=self.started, finished=_now()
        )
        table = [self._row(item) for item in passed]
        document["documents"] = {
            "provenance": blob("provenance.json", golden.compact(statement)),
            "measurements": blob("measurements.json", golden.compact({"schema": 1, "variants": table})),
            "bom": blob("bom.cdx.json", golden.compact(provenance.bill_of_materials(document, source, table))),
        }
        try:
            parse_release(document)
        except ManifestError as error:
            raise PublishError(f"manifest: {error}") from error
        return document, locations

    def _golden_file(self, samples: Samples, wanted: Mapping[str, Array], rows: Sequence[int]) -> bytes:
        return golden.golden_file(
            samples.inputs,
            wanted,
            rows,
            absolute=self.options.conversion_absolute,
            relative=self.options.conversion_relative,
        )

    def _tolerances(self, item: Made, wanted: Mapping[str, Array], rows: Sequence[int]) -> dict[str, dict[str, Any]]:
        """What the golden test allows each output: by the spread that was measured on the golden samples."""
        found: dict[str, dict[str, Any]] = {}
        for measured in filter(None, (item.measured, item.emulated)):
            for name, spread in spreads(measured.outputs, wanted, rows).items():
                if wanted[name].dtype.kind in "iu":
                    continue
                tolerance = self._tolerance(item.kind, spread)
                if name not in found or tolerance["absolute"] > found[name]["absolute"]:
                    found[name] = tolerance
        return found

    def _tolerance(self, kind: str, spread: Spread) -> dict[str, Any]:
        least = LEAST_TOLERANCE[kind] * (spread.scale or 1.0)
        absolute = _rounded_up(max(SPREAD_FACTOR * spread.absolute, least))
        return {"absolute": absolute, "relative": self.options.conversion_relative if kind == "fp32" else 0}

    def _check_devices(self, document: Mapping[str, Any]) -> None:
        """Refuse variants that no declared device can take, and devices that get none."""
        release = parse_release(document)
        for variant in release.variants:
            if self.options.devices and not any(
                _takes(release._replace(variants=(variant,)), device) for device in self.options.devices
            ):
                reasons = []
                for device in self.options.devices:
                    try:
                        choose_variant(release._replace(variants=(variant,)), device)
                    except IncompatibleError as error:
                        reasons.append(f"{device['name']}: {str(error).split(': ', 2)[-1]}")
                self.reasons.append(f"{variant.name}: fits no declared device: {'; '.join(reasons)}")
        for device in self.options.devices:
            try:
                choose_variant(release, device)
            except IncompatibleError as error:
                self.reasons.append(f"device class {device['name']}: {error}")

    def _test_as_devices_do(
        self, document: Mapping[str, Any], passed: Sequence[Made], locations: Mapping[str, str]
    ) -> None:
        """Run the server's own smoke test on each variant, with the files that a device will have."""
        release = parse_release(document)
        directories = []
        for item in passed:
            variant = next(found for found in release.variants if found.name == item.model.name)
            extra = {file.path: locations[file.sha256] for file in release.files(variant)[len(variant.files) :]}
            directory = self.desk.version(item.model.name, document, variant.name, item.model, **extra)
            directories.append(directory)
            self.progress.step(f"smoke test of {variant.name}")
            try:
                self.desk.smoke(directory)
            except RunFailedError as error:
                self.reasons.append(f"{variant.name}: smoke test: {error}")
        if self.emulated_place is not None:
            self.progress.step("golden tests as aarch64, emulated")
            for item, found in zip(passed, self.desk.measure_all(directories, None, self.emulated_place), strict=True):
                if isinstance(found, RunFailedError):
                    self.reasons.append(f"{item.model.name}: as aarch64: {found}")

    def _count_bytes_to_fetch(self, document: Mapping[str, Any], passed: Sequence[Made]) -> None:
        """What a device with the newest other version of the model would fetch."""
        previous = newest_release(self.options.repository, self.options.model, other_than=self.options.version)
        release = parse_release(document)
        for item in passed:
            variant = next(found for found in release.variants if found.name == item.model.name)
            held: set[str] = set()
            if previous is not None:
                same = next((found for found in previous.variants if found.name == variant.name), previous.variants[0])
                held = {file.sha256 for file in previous.files(same)}
            item.fetched_bytes = sum(file.size for file in release.files(variant) if file.sha256 not in held)

    def _row(self, item: Made) -> dict[str, Any]:
        """What is said of a variant, in numbers."""
        row: dict[str, Any] = {
            "variant": item.model.name,
            "verdict": item.judgement.verdict.value if item.judgement else "not made",
            "published": item.refusal is None,
            "size": item.model.size or None,
            "notes": [*item.notes, *([item.refusal] if item.refusal else [])] or list(item.model.notes),
        }
        if item.judgement is not None:
            row["judgement"] = item.judgement.to_dict()
            if item.judgement.worse is not None and item.metric is not None:
                row["interval"] = interval(round(item.metric * item.judgement.samples), item.judgement.samples)
        row["metric"] = item.metric
        if item.measured is not None:
            row["latency_seconds"] = item.measured.latency_seconds
            row["memory_measured"] = item.measured.memory_bytes
            row["memory_bytes"] = item.memory_bytes
            row["runtime"] = item.measured.runtime
            row["architecture"] = item.measured.architecture
        if item.emulated is not None and item.measured is not None:
            apart = spreads(item.emulated.outputs, item.measured.outputs)
            row["aarch64_spread"] = {name: spread.absolute for name, spread in apart.items()}
            row["aarch64_runtime"] = item.emulated.runtime
        row["runtime_minimum"] = item.minimum or None
        row["fetched_bytes"] = item.fetched_bytes
        return row

    def _facts(self, probe: Probe, samples: Samples, wanted: Mapping[str, Array], source: Source) -> dict[str, Any]:
        return {
            "samples": samples.rows,
            "task": probe.task.value,
            "metric": probe.metric.value,
            "output": probe.probe_set.output,
            "source_metric": self.source_metric,
            "outputs": {name: list(values.shape[1:]) for name, values in wanted.items()},
            "materials": [material.entry() for material in source.materials],
            "created": self.created,
        }

    def _refuse_if_any(self) -> None:
        if self.reasons:
            raise RefusedError(self.reasons)


def newest_release(repository: str, model: str, *, other_than: str) -> Release | None:
    """The release of a model that was created last, but for one version; None without any."""
    found: list[Release] = []
    directory = os.path.join(repository, model)
    for version in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        if version != other_than and os.path.exists(os.path.join(directory, version, "manifest.json")):
            try:
                found.append(Repository(repository).release(model, version))
            except EdgemlError:
                continue  # Damaged, or withdrawn: no device is on it.
    return max(found, key=lambda release: str(release.document.get("created", "")), default=None)


def _takes(release: Release, device: Mapping[str, Any]) -> bool:
    try:
        choose_variant(release, device)
    except IncompatibleError:
        return False
    return True


def _words(judgement: Judgement) -> str:
    """Why a variant does not pass."""
    percent = judgement.worse is not None
    loss, upper, limit = (
        f"{100 * value:.2f} points" if percent else f"{value:.1%}"
        for value in (judgement.loss, judgement.loss_upper, judgement.limit)
    )
    changed = f" ({judgement.worse} became wrong, {judgement.better} right)" if percent else ""
    if judgement.verdict is Verdict.FAIL:
        return (
            f"{judgement.metric} goes from {judgement.before:.4f} to {judgement.after:.4f}{changed}: "
            f"a loss of {loss}, of which {limit} are allowed"
        )
    needed = f"it would take about {judgement.needed}" if judgement.needed else "it would take more than ten million"
    return (
        f"holdout too small: a loss of up to {upper} is not out of the question with {judgement.samples} samples"
        f"{changed}, and {limit} are allowed; {needed}"
    )


def _like(values: Array, other: Array) -> Array:
    """The source's outputs in the type and the shape of the model's."""
    shaped = values.reshape(other.shape)
    found: Array = shaped.astype(other.dtype) if other.dtype.kind in "fiub" else shaped.astype(str)
    return found


def _rounded_up(value: float) -> float:
    """The value with one significant digit, not below it."""
    if value <= 0:
        return 0.0
    step = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / step - 1e-9) * step:.0e}")


def _now() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
        if epoch and epoch.isdigit()
        else datetime.datetime.now(datetime.timezone.utc)
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
