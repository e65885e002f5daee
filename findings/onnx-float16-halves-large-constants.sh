#!/usr/bin/env bash
# Two converters of one name make float16 of an ONNX model: one of them clamps every constant at 10,000.
#
# Guess:    float16 reaches up to 65,504, so a divisor of 32,768 (16-bit audio, a raw sensor) survives exactly; and
#           `convert_float_to_float16` is the same in onnxconverter-common and in the runtime's own tools, which share the code.
# Truth:    onnxconverter-common clamps at 10,000 and 1e-7 by default, with a Python warning among others: the model divides by
#           10,000, and all its inputs are 3.3 times too large. The runtime's copy keeps 32,768.
# Versions: onnxconverter-common 1.16.0, onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    the small variant for weak devices answers otherwise than the float one, depending on which of the two tools the desk
#           used. Pass `max_finite_val=65504.0, min_positive_val=5.97e-08`, and compare outputs at the ends of the real range.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxconverter-common==1.16.0 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 sympy==1.14.0
python_finding here <<'EOF'
import warnings
import numpy as np, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common.float16 import convert_float_to_float16 as by_common
from onnxruntime.transformers.float16 import convert_float_to_float16 as by_runtime
from finding import expect

warnings.simplefilter("ignore")


def model():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("input", "output")]
    full_scale = numpy_helper.from_array(np.array([32768], np.float32), "full_scale")
    graph = helper.make_graph([helper.make_node("Div", ["input", "full_scale"], ["output"])], "model", ends[:1], ends[1:], [full_scale])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return round(float(session.run(None, {"input": np.array([16384], np.float32)})[0][0]), 3)


expect("float32: 16384 of 32768", 0.5, answer(model()))
expect("float16 by onnxruntime", 0.5, answer(by_runtime(model(), keep_io_types=True)))
expect("float16 by onnxconverter-common", 1.638, answer(by_common(model(), keep_io_types=True)))
expect("with its limit raised", 0.5, answer(by_common(model(), keep_io_types=True, max_finite_val=65504.0)))
EOF
finish
