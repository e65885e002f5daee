#!/usr/bin/env bash
# ONNX Runtime refuses an array of the wrong type, and casts a list of the same values, also where it loses them.
#
# Guess:    an input is checked against the model's type, whatever holds it: whole numbers for a float input, or fractions for a whole one,
#           are "Unexpected input data type".
# Truth:    true of arrays only. A Python list goes through NumPy with the model's type as its target: 2.9 for int64 becomes 2, the text
#           "7" becomes 7, None for a float input becomes NaN, 16777217 for float32 becomes 16777216, without a word.
# Versions: onnxruntime 1.23.2 and 1.32.0, onnx 1.23.2, numpy 2.4.6.
# Fleet:    JSON gives lists. A handler that passes them on as they came answers a request whose sensor sent null, a text or a
#           fraction for a category with a good score, where the same handler with `np.array` fails. Check types before the runtime.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

for version in 1.23.2 1.32.0; do
    install "$version" onnxruntime=="$version" onnx==1.23.2 numpy==2.4.6
    python_finding "$version" <<'EOF'
import numpy as np, onnxruntime
from onnx import TensorProto, helper
from finding import expect

ends = {"whole": TensorProto.INT64, "float": TensorProto.FLOAT}


def session(type):
    x, y = (helper.make_tensor_value_info(name, type, ["rows"]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "model", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


sessions = {name: session(type) for name, type in ends.items()}


def answer(type, values):
    try:
        return str(sessions[type].run(None, {"x": values})[0].tolist())
    except Exception as error:
        return "refused" if "Unexpected input data type" in str(error) else str(error)


expect("whole, an array of fractions", "refused", answer("whole", np.array([1.7, 2.9])))
expect("whole, a list of fractions", "[1, 2]", answer("whole", [1.7, 2.9]))
expect("whole, a list of texts", "[7]", answer("whole", ["7"]))
expect("float, an array of whole numbers", "refused", answer("float", np.array([16777217])))
expect("float, a list of whole numbers", "[16777216.0]", answer("float", [16777217]))
expect("float, a list with None", "[1.0, nan]", answer("float", [1.0, None]))
EOF
done
finish
