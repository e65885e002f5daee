#!/usr/bin/env bash
# LiteRT's own kernels quantise a value that is far too large as the lowest one, and XNNPACK as the highest.
#
# Guess:    quantising clamps: what is above the range becomes its upper end, on every path through the runtime; which kernels compute is
#           a question of speed.
# Truth:    the kernels without XNNPACK, optimised and reference ones, turn the quotient into an int32 before they clamp it: a value
#           above the scale times 2^31, infinity and NaN become -128, the lowest step. XNNPACK, the default, gives 127, also for NaN. And
#           a value between two steps is rounded in two ways: 0.25 with a scale of 0.1 is 0.2 or, by the reference kernels, 0.3.
# Versions: ai-edge-litert 2.3.0, flatbuffers 25.12.19, numpy 2.4.6, on x86-64 (an ARM processor ends such a conversion at the largest int32).
# Fleet:    a sensor that is saturated, a division by a small number, or the largest float as "no value" is "very hot" on one device and
#           "very cold" on the other, by whether its runtime was built or started with XNNPACK, and the int8 answer looks like any
#           other. Check ranges on the float input, and compute golden outputs of values outside them, too.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

[ "$(uname -m)" = x86_64 ] || cannot "seen on x86-64 only"
install here ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.6
python_finding here <<'EOF'
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from finding import expect

given = {"1,000": 1e3, "a million": 1e6, "a thousand million": 1e9, "the largest float": np.finfo(np.float32).max, "infinity": np.inf}
given.update({"not a number": np.nan, "minus a thousand million": -1e9, "minus infinity": -np.inf, "0.25": 0.25})
model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
operator.inputs, operator.outputs = [0], [1]
graph.operators, graph.inputs, graph.outputs, graph.tensors = [operator], [0], [1], [schema.TensorT(), schema.TensorT()]
for tensor, type in zip(graph.tensors, (schema.TensorType.FLOAT32, schema.TensorType.INT8)):
    tensor.shape, tensor.type = [len(given)], type
tensor.quantization = schema.QuantizationParametersT()
tensor.quantization.scale, tensor.quantization.zeroPoint = [0.1], [0]
builder = flatbuffers.Builder()
builder.Finish(model.Pack(builder), b"TFL3")


def steps(kernels):
    interpreter = Interpreter(model_content=bytes(builder.Output()), experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array(list(given.values()), np.float32))
    interpreter.invoke()
    return dict(zip(given, interpreter.get_tensor(1).tolist()))


inside = {"1,000": 127, "a million": 127, "minus a thousand million": -128, "minus infinity": -128}
beyond = ("a thousand million", "the largest float", "infinity", "not a number")
for name, kernels, far, between in (
    ("XNNPACK, by default", OpResolverType.AUTO, 127, 2),
    ("optimised kernels", OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, -128, 2),
    ("reference kernels", OpResolverType.BUILTIN_REF, -128, 3),
):
    seen = steps(kernels)
    expect(f"{name}: up to a million, and below", inside, {value: seen[value] for value in inside})
    expect(f"{name}: beyond", dict.fromkeys(beyond, far), {value: seen[value] for value in beyond})
    expect(f"{name}: 0.25", between, seen["0.25"])
EOF
finish
