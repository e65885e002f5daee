#!/usr/bin/env bash
# ONNX Runtime does not compare inputs that share a named dimension.
#
# Guess:    a model whose inputs are both [rows, 1] refuses three rows of the one with five of the other, since a name in a shape
#           means the same size wherever it stands.
# Truth:    the name is documentation. Where the operators allow it, the runtime answers: two outputs of "rows" rows come back
#           with three and five; one row of the one is broadcast over all rows of the other. Not a warning by default, while a
#           fixed size that is wrong is an error.
# Versions: onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    a gateway that loses two of five rows of one sensor gets answers that pair the wrong rows, or all rows with one. A
#           server has to compare the sizes itself, before it asks the runtime.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnxruntime
from onnx import TensorProto, helper
from finding import expect


def shapes(operators, outputs, left, right):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in ("left", "right", *outputs)]
    graph = helper.make_graph([helper.make_node(*operator) for operator in operators], "model", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"left": np.zeros((left, 1), np.float32), "right": np.zeros((right, 1), np.float32)}
    return [answer.shape[0] for answer in session.run(None, inputs)]


apart = [("Sigmoid", ["left"], ["first"]), ("Sigmoid", ["right"], ["second"])]
together = [("Add", ["left", "right"], ["sum"])]
expect("rows of both outputs for 3 and 5 rows", [3, 5], shapes(apart, ["first", "second"], 3, 5))
expect("rows of the sum of 3 rows and 1 row", [3], shapes(together, ["sum"], 3, 1))
EOF
finish
