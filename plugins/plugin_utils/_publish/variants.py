# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Smaller variants of an ONNX model: float16, and int8 with ranges from samples or computed as it runs.

All are made by ONNX Runtime's own tools. Nothing here judges a variant: that takes the holdout.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, Sequence

from .memory import trim_heap
from .model import Model, PublishError, couples_rows, file_of, first_line
from .structure import read_structure

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Before ONNX Runtime is imported: it would send telemetry to its vendor.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

SEED = 20261128
BATCH_ROWS = 32
# Layers whose quantisation makes a model smaller or faster, and those that pass integers on. The scores of a last
# Softmax or Sigmoid stay float: 256 steps are too few for small probabilities.
STATIC_OPERATORS = (
    "AveragePool", "Conv", "ConvTranspose", "Flatten", "Gemm", "MatMul", "MaxPool", "Pad", "Relu", "Reshape",
    "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
WEIGHTED_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
DYNAMIC_OPERATORS = ("MatMul", "Gemm", "LSTM", "Attention")
_TOOLS = "ONNX Runtime's quantiser"
# The weights of what is being quantised, beside its graph.
_WEIGHTS = "prepared.weights"
# Per channel, QuantizeLinear has an axis from this opset on.
_OPSET_OF_QDQ = 13


class NothingToDoError(PublishError):
    """The variant would be the same model, or its tool cannot make it; the text says why."""


@dataclass
class Calibration:
    """The ranges of a model's tensors on samples; ``cut_off`` is the share of the holdout's values beyond them."""

    ranges: Any
    samples: int
    cut_off: dict[str, float] = field(default_factory=dict)

    @property
    def largest_cut_off(self) -> tuple[str, float]:
        """The tensor that loses the largest share of its values, and that share."""
        name = max(self.cut_off, key=lambda item: self.cut_off[item], default="")
        return name, self.cut_off.get(name, 0.0)


def calibrating(inputs: Mapping[str, Array], samples: int) -> dict[str, Array]:
    """As many rows as ``samples``, shuffled with a fixed seed, in the order of the inputs."""
    import numpy as np

    rows = len(next(iter(inputs.values())))
    chosen = np.sort(np.random.default_rng(SEED).permutation(rows)[:samples])
    return {name: values[chosen] for name, values in inputs.items()}


def batches_of(inputs: Mapping[str, Array], size: int | None = None) -> Iterator[dict[str, Array]]:
    """The rows in batches: of a model's own size, where that is fixed; a rest that does not fill one is left out."""
    rows = min(map(len, inputs.values()))
    for start in range(0, rows if size is None else rows - size + 1, size or BATCH_ROWS):
        yield {name: values[start : start + (size or BATCH_ROWS)] for name, values in inputs.items()}


def cut_off(limits: Mapping[str, tuple[float, float]], batches: Iterable[Mapping[str, Array]]) -> dict[str, float]:
    """The share of each tensor's values in the batches that are beyond its least and its largest value."""
    import numpy as np

    beyond: dict[str, int] = dict.fromkeys(limits, 0)
    counted: dict[str, int] = dict.fromkeys(limits, 0)
    for found in batches:
        for name, (low, high) in limits.items():
            slack = 1e-6 * max(abs(low), abs(high))
            beyond[name] += int(np.count_nonzero((found[name] < low - slack) | (found[name] > high + slack)))
            counted[name] += found[name].size
    return {name: beyond[name] / counted[name] for name in limits if counted[name]}


def float16(source: Model, directory: str) -> Model:
    """The model with float16 weights; its inputs and outputs stay as they are. Raises NothingToDoError."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(source.entrypoint.location)
    before = _bytes_of_floats(model)
    if not before:
        raise NothingToDoError("the model has no float32 weights")
    with running(_TOOLS):
        made = convert_float_to_float16(model, keep_io_types=True)
    return _saved(made, model, "onnx-fp16", directory, ("float16 weights, float32 inputs and outputs",))


def int8_dynamic(source: Model, directory: str) -> Model:
    """The model with int8 weights whose activations get their ranges as it runs. Raises NothingToDoError."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source.entrypoint.location)
    kinds = {node.op_type for node in model.graph.node}
    if not kinds & set(DYNAMIC_OPERATORS):
        raise NothingToDoError(f"the model has no layer of {', '.join(DYNAMIC_OPERATORS)}")
    path = os.path.join(directory, "dynamic.onnx")
    with running(_TOOLS):
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=list(DYNAMIC_OPERATORS),
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    made = onnx.load(path)
    os.unlink(path)
    note = "int8 weights; the ranges of activations are found as it runs, over all rows of a batch"
    return _saved(made, model, "onnx-int8-dynamic", directory, (note,))


class StaticQuantiser:
    """Makes int8 variants of one model: calibrated once, then with any of its layers left in float.

    Quantisation is per channel, in QDQ form, of weights and activations, with signs (which ARM and x86-64 have alike).
    """

    def __init__(self, source: Model, directory: str) -> None:
        self._directory = directory
        self._original = read_structure(source.entrypoint.location)
        opset = max((item.version for item in self._original.opset_import if item.domain in ("", "ai.onnx")), default=0)
        if not any(node.op_type in WEIGHTED_OPERATORS for node in self._original.graph.node):
            raise NothingToDoError(f"the model has no layer of {', '.join(WEIGHTED_OPERATORS)}")
        if opset < _OPSET_OF_QDQ:
            raise NothingToDoError(f"int8 per channel takes opset {_OPSET_OF_QDQ}; the model has {opset}")
        self._path = os.path.join(directory, "prepared.onnx")
        _prepare(source, self._path)
        self._model = read_structure(self._path)
        self.calibration: Calibration | None = None

    @property
    def layers(self) -> list[str]:
        """The names of the layers that have weights, in the order in which they run."""
        return [node.name for node in self._model.graph.node if node.op_type in WEIGHTED_OPERATORS]

    def calibrate(self, inputs: Mapping[str, Array], samples: int, holdout: Mapping[str, Array]) -> Calibration:
        """Find the ranges of all activations on ``samples`` of the inputs, shuffled with a fixed seed.

        The least and the largest value count, so that the order does not. Then the holdout is compared with them.
        """
        import numpy as np
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

        chosen = calibrating(inputs, samples)
        names = self._quantised_tensors()
        inner_values = self._inner_values(self._path, [name for name in names if name not in holdout])

        def values(rows: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
            return ({**inner_values(batch), **batch} for batch in batches_of(rows, self._size))

        limits: dict[str, tuple[float, float]] = {}
        for found in values(chosen):
            for name in names:
                if found[name].size:
                    low, high = limits.get(name, (np.inf, -np.inf))
                    limits[name] = (min(low, float(found[name].min())), max(high, float(found[name].max())))
        # Nothing is beyond its own range.
        is_holdout = samples >= len(next(iter(inputs.values()))) and all(
            inputs[name] is rows for name, rows in holdout.items()
        )
        shares = dict.fromkeys(limits, 0.0) if is_holdout else cut_off(limits, values(holdout))
        pairs = {name: (np.float32(low), np.float32(high)) for name, (low, high) in limits.items()}
        ranges = TensorsData(CalibrationMethod.MinMax, pairs)
        self.calibration = Calibration(ranges, len(next(iter(chosen.values()))), shares)
        return self.calibration

    def quantise(self, float_layers: Sequence[str] = ()) -> Model:
        """The model in int8, but for ``float_layers``. ``calibrate`` comes first."""
        import onnx
        from onnx.external_data_helper import load_external_data_for_model
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        if self.calibration is None:
            raise PublishError("int8: calibrate comes first")
        # The weights stay in their file: the quantiser reads one after the other from the directory that it is in.
        model = onnx.load(self._path, load_external_data=False)
        with running(_TOOLS), contextlib.chdir(self._directory):
            quantizer = QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8,
                tensors_range=self.calibration.ranges,
                nodes_to_quantize=[],
                nodes_to_exclude=list(float_layers),
                op_types_to_quantize=[*STATIC_OPERATORS],
                extra_options={},
            )
            quantizer.quantize_model()
        del model
        # Those that are left as they were.
        load_external_data_for_model(quantizer.model.model, self._directory)
        notes = [f"int8 per channel, calibrated by {self.calibration.samples} samples"]
        if float_layers:
            notes.append(f"in float: {', '.join(float_layers)}")
        return _saved(quantizer.model.model, self._original, "onnx-int8", self._directory, tuple(notes))

    def _quantised_tensors(self) -> list[str]:
        """The names of the float tensors that the quantiser asks for the ranges of."""
        from onnx import TensorProto

        graph = self._model.graph
        constant = {item.name for item in graph.initializer}
        floats = {
            item.name
            for items in (graph.input, graph.output, graph.value_info)
            for item in items
            if item.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
        }
        ends = (name for node in graph.node if node.op_type in STATIC_OPERATORS for name in (*node.input, *node.output))
        return [name for name in dict.fromkeys(ends) if name in floats and name not in constant]

    def worst_layers(self, made: Model, inputs: Mapping[str, Array]) -> list[str]:
        """The layers with weights, those that add most to the error first: of each, the error of what it puts out
        relative to its size, less what was wrong already in what it takes in."""
        import numpy as np

        quantised = made.entrypoint.location
        outputs = {node.output[0] for node in self._model.graph.node if node.output}
        known = {name for node in read_structure(quantised).graph.node for name in node.output}
        shared = sorted(outputs & known)
        exact, rough = self._inner_values(self._path, shared), self._inner_values(quantised, shared)
        wrong, sizes = dict.fromkeys(shared, 0.0), dict.fromkeys(shared, 0.0)
        batches = batches_of(inputs, self._size)
        for rows in itertools.islice(batches, max(1, BATCH_ROWS // (self._size or BATCH_ROWS))):
            right, found = exact(rows), rough(rows)
            for name in shared:
                # Of boxes that are found, there may be another number.
                if right[name].shape != found[name].shape:
                    continue
                wanted = right[name].astype(np.float64)
                wrong[name] += float(np.square(wanted - found[name]).sum())
                sizes[name] += float(np.square(wanted).sum())
        errors = {name: wrong[name] / sizes[name] if sizes[name] else 0.0 for name in shared}
        added: dict[str, float] = {}
        for node in self._model.graph.node:
            if node.op_type in WEIGHTED_OPERATORS:
                earlier = max((errors.get(name, 0.0) for name in node.input), default=0.0)
                added[node.name] = errors.get(node.output[0], 0.0) - earlier
        return sorted(added, key=lambda name: -added[name])

    def _inner_values(self, path: str, names: Sequence[str]) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
        """What computes tensors inside of the model at ``path``, loaded once."""
        import onnx
        import onnxruntime

        if not names:
            return lambda _inputs: {}
        model = onnx.load(path, load_external_data=False)
        present = {item.name for item in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
        shown = os.path.join(self._directory, "shown.onnx")
        onnx.save(model, shown)
        del model
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(shown, settings, providers=["CPUExecutionProvider"])
        os.unlink(shown)
        return lambda inputs: dict(zip(names, session.run(list(names), dict(inputs))))

    @property
    def _size(self) -> int | None:
        """The number of rows that the model takes, where that is fixed."""
        sizes = {
            item.type.tensor_type.shape.dim[0].dim_value
            for item in self._model.graph.input
            if len(item.type.tensor_type.shape.dim)
        } - {0}
        return sizes.pop() if sizes else None


def _prepare(source: Model, path: str) -> None:
    """Write the model as the quantiser wants it: constants computed, normalisations part of the layers before them,
    nodes with names, shapes known. The runtime does the most of it.

    The quantiser's own preparation cannot read the weights of some models that it wrote itself (onnx 1.23).
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = path
    # Nothing is run here, so that no copy of the weights is needed in the order that the kernels like.
    settings.add_session_config_entry("session.disable_prepacking", "1")
    # Beside the graph, the weights are written and read without a copy of all of them.
    settings.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    settings.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    given: str | bytes = source.entrypoint.location
    if len(source.files) > 1:
        # By its path, weights in a file beside it would stay there.
        given = onnx.load(source.entrypoint.location).SerializeToString()
    onnxruntime.InferenceSession(given, settings, providers=["CPUExecutionProvider"])
    found = onnx.load(path, load_external_data=False)
    used = {node.domain for node in found.graph.node}
    kept = [item for item in found.opset_import if item.domain in used or item.domain in ("", "ai.onnx")]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    _name_nodes(found)
    _flatten_biases(found)
    # Else the quantiser infers the shapes once more, of a copy.
    add_infer_metadata(found)
    onnx.save(found, path)
    del found
    onnx.shape_inference.infer_shapes_path(path, path)
    trim_heap()


def _name_nodes(model: Any) -> None:
    """Give each node a name: layers are left out by it."""
    taken = {node.name for node in model.graph.node}
    for number, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{number}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)


def _flatten_biases(model: Any) -> None:
    """Give each bias one axis. Of a product and a sum the runtime makes a layer whose bias has the shape [1, n], as
    scikit-learn's converter writes it. The quantiser fails with that, and takes [n], which is the same.
    """
    graph = model.graph
    used = Counter(name for node in graph.node for name in node.input)
    alone = {item.name: item for item in graph.initializer if used[item.name] == 1}
    for item in graph.input:
        alone.pop(item.name, None)
    for node in graph.node:
        bias = alone.get(node.input[2]) if node.op_type == "Gemm" and len(node.input) > 2 else None
        if bias is not None and len(bias.dims) == 2 and bias.dims[0] == 1:
            del bias.dims[0]


def _bytes_of_floats(model: Any) -> int:
    from onnx import TensorProto

    return sum(len(item.raw_data) or 4 * len(item.float_data) for item in model.graph.initializer
               if item.data_type == TensorProto.FLOAT)  # fmt: skip


def _saved(made: Any, original: Any, name: str, directory: str, notes: tuple[str, ...]) -> Model:
    """Write a variant as one file. It asks for no newer a reader than the model that it was made of."""
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    # The tools append their nodes, wherever those belong.
    ONNXModel(made).topological_sort()
    made.ir_version = original.ir_version
    made.producer_name, made.producer_version = original.producer_name, original.producer_version
    # What the tools note there for themselves is nobody else's.
    del made.metadata_props[:]
    made.metadata_props.extend(original.metadata_props)
    path = os.path.join(directory, f"{name}.onnx")
    content = made.SerializeToString(deterministic=True)
    onnx.checker.check_model(content)
    with open(path, "wb") as file:
        file.write(content)
    del made, content
    trim_heap()
    return Model(name, "onnx", (file_of(path, f"{name}.onnx"),), notes, couples_rows=couples_rows(path))


@contextlib.contextmanager
def running(tool: str) -> Iterator[None]:
    """Keep the tool's warnings and progress bars to itself: what counts is measured afterwards.

    Raises NothingToDoError where it fails with the model.
    """
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), open(os.devnull, "w", encoding="ascii") as nowhere:
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            try:
                yield
            except Exception as error:
                raise NothingToDoError(f"{tool} fails with this model: {first_line(error)}") from error
            finally:
                logging.disable(before)
