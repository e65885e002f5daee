#!/usr/bin/env bash
# ONNX Runtime's own float16 converter writes graphs that ONNX forbids, and ONNX Runtime itself does not notice.
#
# Guess:    what `convert_float_to_float16` returns for a valid model is a valid model.
# Truth:    with `keep_io_types=True`, so that clients go on sending float32, the casts of inputs are put at the end of the list of
#           nodes, behind their readers. `onnx.checker` refuses the graph as not topologically sorted; ONNX Runtime sorts it and
#           answers. Without `keep_io_types` the graph is in order.
# Versions: onnx 1.23.2, onnxruntime 1.32.0.
# Fleet:    a release passes every test that the runtime makes, and breaks the first tool that believes the format: a checker in CI,
#           a converter, a reader that walks through the nodes once. Sort the nodes before you save, and run the checker.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnx==1.23.2 onnxruntime==1.32.0
python_finding here <<'EOF'
import numpy as np
import onnx
import onnxruntime
from finding import expect
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16


def model():
    """The soft maximum of a product."""
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "weights")
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["scores"]), helper.make_node("Softmax", ["scores"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [weights]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )


def checked(converted):
    try:
        onnx.checker.check_model(converted)
        return "valid"
    except onnx.checker.ValidationError as error:
        return "not sorted" if "topologically sorted" in str(error) else str(error)


expect("the model", "valid", checked(model()))
expect("as float16", "valid", checked(convert_float_to_float16(model())))
kept = convert_float_to_float16(model(), keep_io_types=True)
expect("as float16 with inputs and outputs kept", "not sorted", checked(kept))
(answer,) = onnxruntime.InferenceSession(kept.SerializeToString()).run(None, {"x": np.eye(4, dtype=np.float32)})
expect("its answer by ONNX Runtime", "right", "right" if (answer.argmax(axis=1) == range(4)).all() else "wrong")
EOF
finish
