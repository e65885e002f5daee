# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Smaller variants of a LiteRT model, made by ai-edge-quantizer: it has the functions and the class of ``variants``.

Inputs, outputs and the scores of a last Softmax stay float, as in the variants of ONNX models: clients send and get the
same whichever variant a device has. The quantizer's own ranges are a moving average, in which the order of the samples
counts and a rare large value does not; these are the least and the largest value.
"""

from __future__ import annotations

import os
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Sequence

from .model import Model, PublishError, file_of
from .variants import BATCH_ROWS, Calibration, NothingToDoError, batches_of, calibrating, cut_off, running

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

PACKAGE = "ai-edge-quantizer==0.10.0"
_TOOLS = "ai-edge-quantizer"
_WEIGHTED = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_FLOAT = ("INPUT", "OUTPUT", "SOFTMAX", "LOGISTIC")


def float16(source: Model, directory: str) -> Model:
    """The model with float16 weights. Raises NothingToDoError."""
    aeq = _quantizer()
    recipe = aeq.recipe_manager.RecipeManager()
    names = aeq.qtyping.TFLOperationName
    casting = aeq.algorithm_manager.AlgorithmName.FLOAT_CASTING
    recipe.add_weight_only_config(".*", names.ALL_SUPPORTED, num_bits=16, algorithm_key=casting)
    note = "float16 weights, float32 inputs and outputs"
    return _made(_Graph(source), recipe, None, "tflite-fp16", directory, (note,))


def int8_dynamic(source: Model, directory: str) -> Model:
    """The model with int8 weights whose activations get their ranges as it runs. Raises NothingToDoError."""
    aeq = _quantizer()
    recipe = aeq.recipe_manager.RecipeManager()
    recipe.load_quantization_recipe(aeq.recipe.dynamic_wi8_afp32())
    note = "int8 weights; the ranges of activations are found as it runs"
    return _made(_Graph(source), recipe, None, "tflite-int8-dynamic", directory, (note,))


class StaticQuantiser:
    """Makes int8 variants of one model: calibrated once, then with any of its layers left in float."""

    def __init__(self, source: Model, directory: str) -> None:
        self._directory = directory
        self._aeq = _quantizer()
        self._graph = _Graph(source)
        self.calibration: Calibration | None = None

    @property
    def layers(self) -> list[str]:
        """The names of what the layers with weights put out, in the order in which they run."""
        return [layer.output for layer in self._graph.layers]

    def calibrate(self, inputs: Mapping[str, Array], samples: int, holdout: Mapping[str, Array]) -> Calibration:
        """Find the ranges of all activations on ``samples`` of the inputs, shuffled with a fixed seed.

        The least and the largest value count, so that the order does not. Then the holdout is compared with them.
        """
        from ai_edge_quantizer.calibrator import Calibrator
        from ai_edge_quantizer.utils.qsv_utils import min_max_update

        chosen = calibrating(inputs, samples)
        with running(_TOOLS):
            calibrator = Calibrator(self._graph.content, num_threads=1, qsv_update_func=min_max_update)
            calibrator.calibrate({self._graph.signature: list(batches_of(chosen, self._graph.rows))}, self._recipe())
        return self.take(calibrator.get_model_qsvs(), len(next(iter(chosen.values()))), holdout)

    def take(self, ranges: Mapping[str, Any], samples: int, holdout: Mapping[str, Array]) -> Calibration:
        """Take the ranges of the quantizer's calibration by ``samples``, and compare the holdout with them."""
        known = self._graph.activations
        limits = {
            name: (float(found["min"].min()), float(found["max"].max()))
            for name, found in ranges.items()
            if name in known and found
        }
        values = (self._graph.values(self._graph.content, batch) for batch in batches_of(holdout, self._graph.rows))
        self.calibration = Calibration(ranges, samples, cut_off(limits, values))
        return self.calibration

    def quantise(self, float_layers: Sequence[str] = ()) -> Model:
        """The model in int8, but for ``float_layers``. ``calibrate`` comes first."""
        if self.calibration is None:
            raise PublishError("int8: calibrate comes first")
        notes = [f"int8 per channel, calibrated by {self.calibration.samples} samples"]
        if float_layers:
            notes.append(f"in float: {', '.join(float_layers)}")
        recipe = self._recipe(float_layers)
        return _made(self._graph, recipe, self.calibration.ranges, "tflite-int8", self._directory, tuple(notes))

    def worst_layers(self, made: Model, inputs: Mapping[str, Array]) -> list[str]:
        """The layers with weights, those that add most to the error first: of each, the error of what it puts out
        relative to its size, less what was wrong already in what it takes in."""
        import numpy as np

        rows = next(batches_of({name: values[:BATCH_ROWS] for name, values in inputs.items()}, self._graph.rows))
        with open(made.entrypoint.location, "rb") as file:
            rough = self._graph.values(file.read(), rows)
        exact = self._graph.values(self._graph.content, rows)
        errors: dict[str, float] = {}
        for name in exact.keys() & rough.keys():
            wanted, found = (values[name].astype(np.float64) for values in (exact, rough))
            size = float(np.square(wanted).mean())
            errors[name] = float(np.square(wanted - found).mean()) / size if size else 0.0
        added = {}
        for layer in self._graph.layers:
            earlier = max((errors.get(name, 0.0) for name in layer.inputs), default=0.0)
            added[layer.output] = errors.get(layer.output, 0.0) - earlier
        return sorted(added, key=lambda name: -added[name])

    def _recipe(self, float_layers: Sequence[str] = ()) -> Any:
        names, never = self._aeq.qtyping.TFLOperationName, self._aeq.algorithm_manager.AlgorithmName.NO_QUANTIZE
        recipe = self._aeq.recipe_manager.RecipeManager()
        recipe.add_static_config(".*", names.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
        for kind in _FLOAT:
            recipe.add_quantization_config(".*", names[kind], algorithm_key=never)
        for name in float_layers:
            # The quantizer calls an operator by what it puts out.
            recipe.add_quantization_config(f"^{re.escape(name)};?$", names.ALL_SUPPORTED, algorithm_key=never)
        return recipe


class _Layer(NamedTuple):
    """An operator with weights: the names of the tensors that it takes in, and of the one that it puts out."""

    inputs: Sequence[str]
    output: str


class _Graph:
    """What a LiteRT file says of its only graph. Raises NothingToDoError for a file of another form."""

    def __init__(self, source: Model) -> None:
        from ai_edge_litert import schema_py_generated as schema

        with open(source.entrypoint.location, "rb") as file:
            self.content = file.read()
        model = schema.ModelT.InitFromPackedBuf(self.content)
        signatures = model.signatureDefs or []
        if len(signatures) != 1 or len(model.subgraphs) != 1:
            raise NothingToDoError(
                f"expected a file with one graph and one signature; found {len(model.subgraphs)} and {len(signatures)}"
            )
        (graph,), (signature,) = model.subgraphs, signatures
        weighted = {getattr(schema.BuiltinOperator, name) for name in _WEIGHTED}
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
        tensors = [tensor.name.decode() for tensor in graph.tensors]
        self.signature = signature.signatureKey.decode()
        self.layers = [
            _Layer([tensors[index] for index in operator.inputs if index >= 0], tensors[operator.outputs[0]])
            for operator in graph.operators
            if codes[operator.opcodeIndex] in weighted
        ]
        if not self.layers:
            raise NothingToDoError(f"the model has no layer of {', '.join(_WEIGHTED)}")
        # Constants have a content; all others get theirs as the model runs.
        self.activations = {
            tensor.name.decode()
            for tensor in graph.tensors
            if tensor.type == schema.TensorType.FLOAT32 and model.buffers[tensor.buffer].data is None
        }
        first = graph.tensors[graph.inputs[0]]
        shape = first.shapeSignature if first.shapeSignature is not None else first.shape
        # The number of rows that the model takes, where that is fixed.
        self.rows: int | None = int(shape[0]) if len(shape) and shape[0] > 0 else None

    def values(self, content: bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What a model of this graph, quantised or not, has in its tensors when it runs: as floats, by their names."""
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with running(_TOOLS):
            interpreter = Interpreter(
                model_content=content,
                num_threads=1,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        interpreter.get_signature_runner(self.signature)(**inputs)
        found: dict[str, Array] = {}
        for tensor in interpreter.get_tensor_details():
            if tensor["name"] not in self.activations:
                continue
            values = interpreter.get_tensor(tensor["index"])
            scale, zero = tensor["quantization"]
            found[tensor["name"]] = (values.astype(np.float32) - zero) * scale if scale else values
        return found


def _made(graph: _Graph, recipe: Any, ranges: Any, name: str, directory: str, notes: tuple[str, ...]) -> Model:
    """Write a variant."""
    from ai_edge_quantizer.quantizer import Quantizer

    with running(_TOOLS):
        quantizer = Quantizer(bytearray(graph.content), recipe.get_quantization_recipe())
        made = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    path = os.path.join(directory, f"{name}.tflite")
    with open(path, "wb") as file:
        file.write(made.quantized_model)
    return Model(name, "tflite", (file_of(path, f"{name}.tflite"),), notes)


def _quantizer() -> SimpleNamespace:
    """The quantizer's modules. Raises PublishError if it is not installed."""
    try:
        from ai_edge_quantizer import algorithm_manager, qtyping, recipe, recipe_manager
    except ImportError as error:
        raise PublishError(f"variants of a .tflite are made by {PACKAGE}, which is not installed: {error}") from error
    return SimpleNamespace(
        algorithm_manager=algorithm_manager, qtyping=qtyping, recipe=recipe, recipe_manager=recipe_manager
    )
