#!/usr/bin/env bash
# LiteRT's reference kernels and TensorFlow Lite Micro round a quantised dense layer differently: int8 outputs differ.
#
# Guess:    int8 inference is integer arithmetic that the specification fixes; the reference kernels of both runtimes agree bit
#           for bit, so golden outputs that LiteRT computed hold for a microcontroller with TensorFlow Lite Micro.
# Truth:    LiteRT rounds once when it scales the sum of a dense layer, TensorFlow Lite Micro twice (after the multiplication, and
#           after the shift). Up to a tenth of its outputs is off by one step; behind a Softmax by several. Convolutions agree.
# Versions: ai-edge-litert 2.3.0, tflite-micro 0.dev20261023182759.
# Fleet:    exact golden outputs from the wrong runtime fail a good model on some devices and inputs, and not on others. Compute
#           those of a microcontroller by TensorFlow Lite Micro itself.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here ai-edge-litert==2.3.0 tflite-micro==0.dev20261023182759 flatbuffers==25.12.19 numpy==2.4.6
python_finding here <<'PYTHON'
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from finding import expect
from tflite_micro.python.tflite_micro import runtime

OPERATORS, OPTIONS, TYPES = schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType


def one_layer(dense: bool, chance: np.random.Generator) -> bytes:
    """A model of one layer from 32 numbers to 16."""
    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    model.version, model.subgraphs, model.buffers, graph.tensors = 3, [graph], [schema.BufferT()], []
    ends = ([1, 32], [1, 16]) if dense else ([1, 1, 1, 32], [1, 1, 1, 16])
    weights = chance.integers(-2, 3, (16, 32) if dense else (16, 1, 1, 32)).astype(np.int8)
    bias = np.zeros(16, np.int32)
    for shape, scale, content in ((ends[0], 0.05, None), (weights.shape, 0.01, weights), ((16,), 0.0005, bias), (ends[1], 0.0045, None)):
        buffer = schema.BufferT()
        tensor = schema.TensorT()
        tensor.shape, tensor.type = list(shape), TYPES.INT32 if content is bias else TYPES.INT8
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
        if content is not None:
            buffer.data = list(content.tobytes())
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = OPERATORS.FULLY_CONNECTED if dense else OPERATORS.CONV_2D
    code.version, model.operatorCodes = 1, [code]
    operator.inputs, operator.outputs, operator.opcodeIndex = [0, 1, 2], [3], 0
    operator.builtinOptionsType = OPTIONS.FullyConnectedOptions if dense else OPTIONS.Conv2DOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT() if dense else schema.Conv2DOptionsT()
    if not dense:
        operator.builtinOptions.strideH = operator.builtinOptions.strideW = 1
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [3]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


for name, dense, agree in (("a dense layer", True, False), ("a convolution of one pixel", False, True)):
    chance = np.random.default_rng(1)
    model = one_layer(dense, chance)
    micro = runtime.Interpreter.from_bytes(model)
    lite = Interpreter(model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    lite.allocate_tensors()
    given, result = lite.get_input_details()[0], lite.get_output_details()[0]
    different = total = largest = 0
    for _ in range(2000):
        values = chance.integers(-128, 128, given["shape"]).astype(np.int8)
        lite.set_tensor(given["index"], values)
        lite.invoke()
        micro.set_input(values, 0)
        micro.invoke()
        off = np.abs(lite.get_tensor(result["index"]).astype(int) - micro.get_output(0))
        different, total, largest = different + int((off > 0).sum()), total + off.size, max(largest, int(off.max()))
    print(f"  {name}: {different} of {total} outputs differ, by {largest} at most")
    expect(f"{name}: both runtimes agree", agree, different == 0)
PYTHON
finish
