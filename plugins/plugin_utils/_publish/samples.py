# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The samples that a release is proved with: inputs by name, labels, and what the source answers to them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Collection, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.arrays import write_archive
from ansible_collections.edgeml.fleet.plugins.module_utils._release.datatypes import NUMBERS, TEXT

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

LABELS = "labels"
SETTINGS = "probe"
_INPUT, _REFERENCE = "input:", "reference:"
_SHOWN = 5
_MISSING = "If NaN is a missing value to this model, set missing_values"
_RAGGED = f'Of boxes, of which each sample has another number, set "ragged": true in {SETTINGS}: NaN then fills them up'
# NumPy's kinds of numbers, booleans and texts.
_KINDS = "biufUS"


class SamplesError(EdgemlError):
    """The samples cannot be used; the text names the file, the array, what was expected and what was found."""


@dataclass(frozen=True)
class Samples:
    """Arrays whose first axis is the sample. ``reference`` has the source's own outputs, by the outputs' names.

    ``settings`` are those of a probe set: task, output, metric, top, threshold, tolerance.
    """

    path: str
    inputs: Mapping[str, Array]
    labels: Array | None = None
    reference: Mapping[str, Array] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return max((len(values) for values in self.inputs.values() if values.ndim), default=0)


def read_samples(path: str, *, missing_values: bool = False) -> Samples:
    """Read a ``.npz`` file. Raises SamplesError; arrays of objects are refused, because reading them can run code.

    Its arrays are the inputs (``image`` or ``input:image``), ``labels``, ``reference:<output>`` (or ``reference``, of a
    model with one output), and ``probe``, a text with settings as JSON.
    """
    arrays = _arrays(path)
    for name, values in arrays.items():
        if values.dtype.kind not in _KINDS:
            raise SamplesError(f"{path}: {name}: expected numbers, booleans or texts; found {values.dtype}")
    settings = _settings(path, arrays.pop(SETTINGS, None))
    labels = arrays.pop(LABELS, None)
    if labels is not None:
        labels = _plain(_texts(f"{path}: {LABELS}", labels))
    inputs: dict[str, Array] = {}
    reference: dict[str, Array] = {}
    for name, values in arrays.items():
        if name == _REFERENCE[:-1]:
            reference[""] = values
        elif name.startswith(_REFERENCE):
            reference[name[len(_REFERENCE) :]] = values
        else:
            inputs[name.removeprefix(_INPUT)] = values
    samples = Samples(path, inputs, labels, reference, settings)
    if not inputs:
        raise SamplesError(f"{path}: expected an array for each input of the model, by its name; found none")
    _check_rows(samples)
    for name, values in inputs.items():
        _check_numbers(f"{path}: {name}", values, missing_values=missing_values)
    if labels is not None:
        is_filled = settings.get("ragged") is True
        _check_numbers(f"{path}: {LABELS}", labels, missing_values=is_filled, remedy=_RAGGED)
    return samples


def fitted(samples: Samples, specs: Sequence[Mapping[str, Any]]) -> Samples:
    """The samples with the datatypes of the model's inputs. Raises SamplesError where names or values do not fit.

    Only a change of the number of bits is made, as clients make it: 64-bit floats become 32-bit ones.
    """
    known = {spec["name"]: spec for spec in specs}
    given = {_named(name, known): values for name, values in samples.inputs.items()}
    if set(known) != set(given):
        raise SamplesError(
            f"{samples.path}: expected the model's inputs {', '.join(sorted(known))}; "
            f"found {', '.join(sorted(samples.inputs))}"
        )
    inputs = {name: _cast(samples.path, known[name], values) for name, values in given.items()}
    return Samples(samples.path, inputs, samples.labels, samples.reference, samples.settings)


def _named(name: str, known: Collection[str]) -> str:
    """The name of the input that an array is of; TensorFlow's ``input:0`` begins as the prefix does."""
    return name if name in known or f"{_INPUT}{name}" not in known else f"{_INPUT}{name}"


def write_inputs(path: str, inputs: Mapping[str, Array]) -> None:
    """Write arrays by their names for a program that reads them again."""
    import numpy as np

    write_archive(path, inputs, np.lib.format.write_array)


def _arrays(path: str) -> dict[str, Array]:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise SamplesError(f"{path}: expected a .npz file, as numpy.savez writes it; found one array")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        remedy = ""
        if "pickle" in str(error):
            remedy = ". Save texts as numpy.array(texts, dtype=str); objects need pickle, which can run code"
        raise SamplesError(f"{path}: expected a .npz file: {error}{remedy}") from error


def _settings(path: str, value: Array | None) -> Mapping[str, Any]:
    if value is None:
        return {}
    try:
        document = json.loads(str(value))
        if not isinstance(document, dict):
            raise ValueError(f"found {type(document).__name__}")
    except ValueError as error:
        raise SamplesError(f"{path}: {SETTINGS}: expected a JSON object: {error}") from error
    return document


def _check_rows(samples: Samples) -> None:
    counted = dict(samples.inputs)
    if samples.labels is not None:
        counted[LABELS] = samples.labels
    counted.update({f"{_REFERENCE}{name}".rstrip(":"): values for name, values in samples.reference.items()})
    if not samples.rows:
        raise SamplesError(f"{samples.path}: expected arrays with a row for each sample; found no row")
    if any(not values.ndim or len(values) != samples.rows for values in counted.values()):
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in counted.items())
        raise SamplesError(f"{samples.path}: expected as many rows in each array, one for each sample; found {shapes}")


def _check_numbers(name: str, values: Array, *, missing_values: bool, remedy: str = _MISSING) -> None:
    import numpy as np

    if values.dtype.kind != "f":
        return
    wrong = ~np.isfinite(values) if not missing_values else np.isinf(values)
    if wrong.any():
        rows = sorted({int(place[0]) for place in np.argwhere(wrong)})
        shown = ", ".join(map(str, rows[:_SHOWN])) + (" …" if len(rows) > _SHOWN else "")
        remedy = "" if missing_values else f". {remedy}"
        raise SamplesError(
            f"{name}: expected finite numbers; found {int(np.count_nonzero(wrong))} NaN or infinite values in "
            f"{len(rows)} of {len(values)} samples: {shown}{remedy}"
        )


def _cast(path: str, spec: Mapping[str, Any], values: Array) -> Array:
    import numpy as np

    datatype, shape = spec["datatype"], spec["shape"]
    if datatype == TEXT:
        if values.dtype.kind not in "US":
            raise SamplesError(f"{path}: {spec['name']}: expected texts (dtype str); found {values.dtype}")
        fit = _texts(f"{path}: {spec['name']}", values)
    else:
        wanted = np.dtype(NUMBERS[datatype][0])
        if not np.can_cast(values.dtype, wanted, "same_kind") and not _is_exact(values, wanted):
            raise SamplesError(
                f"{path}: {spec['name']}: expected {datatype}, as the model has it; found {values.dtype}"
            )
        fit = values.astype(wanted)
        if wanted.kind in "iu" and (fit.astype(np.float64) != values.astype(np.float64)).any():
            raise SamplesError(f"{path}: {spec['name']}: found values that {datatype} cannot hold")
    if not spec.get("any_rank") and fit.ndim != len(shape):
        remedy = ""
        if fit.ndim == len(shape) + 1:
            remedy = ". The model has no axis for samples: export it with one in front"
        elif fit.ndim == len(shape) - 1 and 1 in shape[1:] and -1 not in shape[1:]:
            remedy = f". Give it the missing axis: {spec['name']}.reshape({', '.join(map(str, (-1, *shape[1:])))})"
        raise SamplesError(
            f"{path}: {spec['name']}: expected the shape {list(shape)} (-1: any size); found {list(fit.shape)}{remedy}"
        )
    wrong = [place for place, size in enumerate(shape[1:], 1) if size not in (-1, fit.shape[place])]
    if wrong:
        raise SamplesError(
            f"{path}: {spec['name']}: expected the shape {list(shape)} (-1: any size); found {list(fit.shape)}"
        )
    return np.ascontiguousarray(fit)


def _texts(name: str, values: Array) -> Array:
    """Texts that may be bytes, as TensorFlow has them."""
    import numpy as np

    try:
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
    except UnicodeDecodeError as error:
        raise SamplesError(f"{name}: expected texts in UTF-8: {error}") from error


def _plain(values: Array) -> Array:
    """The same values as devices read them: row by row, in little-endian order, in at most 64 bits."""
    import numpy as np

    if values.dtype.kind == "f" and values.dtype.itemsize > np.dtype(np.float64).itemsize:
        values = values.astype(np.float64)
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))


def _is_exact(values: Array, wanted: Any) -> bool:
    """Whether numbers of another kind are the same ones: 3.0 and 3."""
    if values.dtype.kind not in "biuf" or wanted.kind not in "iuf":
        return False
    return bool((values.astype(wanted).astype(values.dtype) == values).all())
