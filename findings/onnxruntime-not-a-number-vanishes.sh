#!/usr/bin/env bash
# ONNX Runtime makes confident answers of NaN: pooling and quantisation swallow it.
#
# Guess:    a broken sensor's NaN goes through a network as NaN, as it does in NumPy, so that a look at the output finds it.
# Truth:    MaxPool, ReduceMax, ArgMax and QuantizeLinear drop it, and answer as if that value were not there or were a number;
#           Max, Relu, Clip, Softmax carry it on. So one model keeps the NaN, another with pooling does not, and the int8 form of
#           the first answers it with a number.
# Versions: onnxruntime 1.32.0 on x86-64, onnx 1.23.2, NumPy 2.4.6.
# Fleet:    a camera line or a thermistor that died is answered with a class and a good score, and an alert on NaN outputs stays
#           silent from the day on which the float release is replaced by its int8 form. Look at the inputs.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from finding import expect

signal = np.array([[[1, np.nan, 3, -2]]], np.float32)


def keeps_nan(*operators, constants=()):
    """Whether the float output of these nodes, from `input` to `output`, has a NaN for a signal that has one."""
    ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 4])]
    ends += [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)]
    nodes = [helper.make_node(operator, inputs, [output], **attributes) for operator, inputs, output, attributes in operators]
    initialisers = [numpy_helper.from_array(value, name) for name, value in constants]
    graph = helper.make_graph(nodes, "model", ends[:1], ends[1:], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return bool(np.isnan(session.run(None, {"input": signal})[0]).any())


zero, six = ("zero", np.float32(0)), ("six", np.float32(6))
scale, middle = ("scale", np.float32(0.1)), ("middle", np.uint8(10))
expect("NumPy's max keeps it", True, bool(np.isnan(signal.max())))
for name, kept, arguments in (
    ("Relu", True, {}), ("Softmax", True, {}), ("MaxPool", False, {"kernel_shape": [2]}), ("ReduceMax", False, {"axes": [2]}),
):
    expect(f"{name} keeps it", kept, keeps_nan((name, ["input"], "output", arguments)))
expect("Clip keeps it", True, keeps_nan(("Clip", ["input", "zero", "six"], "output", {}), constants=[zero, six]))
expect("Max keeps it", True, keeps_nan(("Max", ["input", "zero"], "output", {}), constants=[zero]))
quantised = [
    ("QuantizeLinear", ["input", "scale", "middle"], "steps", {}),
    ("DequantizeLinear", ["steps", "scale", "middle"], "output", {}),
]
expect("QuantizeLinear and back keep it", False, keeps_nan(*quantised, constants=[scale, middle]))
EOF
finish
