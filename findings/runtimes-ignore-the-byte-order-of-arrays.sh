#!/usr/bin/env bash
# ONNX Runtime, LiteRT and ncnn take a big-endian array as if it were little-endian, and a masked one as if nothing were masked.
#
# Guess:    a runtime that refuses float64 where float32 is wanted looks at an array's type: `>f4` is converted, or refused. A masked value
#           is NaN, or refused.
# Truth:    all compare the kind and the size only, and read the memory as it lies: 1, 2, 3 become numbers of 1e-41, and an int64 1
#           becomes 72057594037927936. So do `OrtValue` and IO binding. Below a mask, the runtime sees the filler, here -9999. Strides
#           they do mind: a reversed array is read right.
# Versions: onnxruntime 1.23.2 and 1.32.0, ai-edge-litert 2.3.0, ncnn 1.0.20261020, numpy 2.4.6. Little-endian machines.
# Fleet:    instruments, network protocols, and files of FITS, netCDF-3 and IDX are big-endian, and `numpy.frombuffer(data, ">f4")` is how
#           they are read. Everything before the runtime (a mean, a plot, a check of the range) is right, and the answer is that of
#           an empty picture. Convert with `array.astype(array.dtype.newbyteorder("="))`, and fill masked values yourself.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

for version in 1.23.2 1.32.0; do
    install "$version" onnxruntime=="$version" onnx==1.23.2 numpy==2.4.6
    python_finding "$version" <<'EOF'
import numpy as np, onnxruntime
from onnx import TensorProto, helper
from finding import expect

ends = [("f", TensorProto.FLOAT), ("i", TensorProto.INT64)]
graph = helper.make_graph(
    [helper.make_node("Identity", [kind], ["out_" + kind]) for kind, _ in ends],
    "model",
    [helper.make_tensor_value_info(kind, type, ["rows"]) for kind, type in ends],
    [helper.make_tensor_value_info("out_" + kind, type, ["rows"]) for kind, type in ends],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
floats, whole = np.array([1, 2, 3], np.float32), np.array([1, 2, 3])


def answer(values):
    return session.run(["out_" + values.dtype.kind], {"f": floats, "i": whole, values.dtype.kind: values})[0].tolist()


expect("float32", [1, 2, 3], answer(floats))
expect("float32, a view from the end", [3, 2, 1], answer(floats[::-1]))
foreign = floats.astype(">f4")
expect("big-endian: NumPy's mean", 2.0, float(foreign.mean()))
expect("big-endian: all answers are about zero", True, bool(max(np.abs(answer(foreign))) < 1e-37))
expect("big-endian int64", [2**56, 2 * 2**56, 3 * 2**56], answer(whole.astype(">i8")))
expect("big-endian, by OrtValue: zeros, too", True, bool(onnxruntime.OrtValue.ortvalue_from_numpy(foreign).numpy().max() < 1e-37))
masked = np.ma.masked_array(np.array([1, -9999, 3], np.float32), [False, True, False])
expect("masked: NumPy's mean", 2.0, float(masked.mean()))
expect("masked", [1, -9999, 3], answer(masked))
try:
    answer(floats.astype(float))
except Exception as error:
    expect("float64 is refused", True, "Unexpected input data type" in str(error))
EOF
done

install lite ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.6
python_finding lite <<'EOF'
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from finding import expect

model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.NEG
operator.inputs, operator.outputs = [0], [1]
graph.operators, graph.inputs, graph.outputs, graph.tensors = [operator], [0], [1], [schema.TensorT(), schema.TensorT()]
for tensor in graph.tensors:
    tensor.shape, tensor.type = [3], schema.TensorType.FLOAT32
builder = flatbuffers.Builder()
builder.Finish(model.Pack(builder), b"TFL3")
interpreter = Interpreter(model_content=bytes(builder.Output()))
interpreter.allocate_tensors()


def answer(values):
    interpreter.set_tensor(0, values)
    interpreter.invoke()
    return interpreter.get_tensor(1).tolist()


floats = np.array([1, 2, 3], np.float32)
expect("LiteRT, which negates: float32", [-1, -2, -3], answer(floats))
expect("a view from the end", [-3, -2, -1], answer(floats[::-1]))
expect("big-endian: all answers are about zero", True, bool(max(np.abs(answer(floats.astype(">f4")))) < 1e-37))
expect("masked", [-1, 9999, -3], answer(np.ma.masked_array(np.array([1, -9999, 3], np.float32), [False, True, False])))
try:
    answer(floats.astype(float))
except ValueError as error:
    expect("float64 is refused", True, "FLOAT64 but expected type FLOAT32" in str(error))
EOF

install ncnn --python 3.11 ncnn==1.0.20261020 numpy==2.4.6
python_finding ncnn <<'EOF'
import ncnn, numpy as np
from finding import expect

floats = np.array([1, 2, 3], np.float32)
expect("ncnn: float32", [1, 2, 3], np.array(ncnn.Mat(floats)).tolist())
expect("big-endian: all values are about zero", True, bool(np.array(ncnn.Mat(floats.astype(">f4"))).max() < 1e-37))
EOF
finish
