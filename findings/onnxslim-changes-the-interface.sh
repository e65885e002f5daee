#!/usr/bin/env bash
# An optimiser takes an input away from a model, and each optimiser decides otherwise.
#
# Guess:    optimising keeps a model's interface: the same inputs and outputs by name, as ONNX Runtime's own optimiser does.
# Truth:    onnxslim drops a graph input that no node reads. The optimised model refuses a request that the original took:
#           "Invalid input name".
# Versions: onnxslim 0.1.98, onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    an input that the newest training no longer uses (a `token_type_ids`, an age that was dropped) is still sent by every
#           client. The original release serves them, its optimised variant refuses them all, on some of the devices only.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxslim==0.1.98 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnx, onnxruntime, onnxslim
from onnx import TensorProto, helper
from finding import expect

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("signal", "age", "output")]
graph = helper.make_graph([helper.make_node("Sigmoid", ["signal"], ["output"])], "model", values[:2], values[2:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "original.onnx")
onnx.save(onnxslim.slim(onnx.load("original.onnx")), "slim.onnx")
options = onnxruntime.SessionOptions()
options.optimized_model_filepath = "optimised.onnx"
onnxruntime.InferenceSession("original.onnx", options, providers=["CPUExecutionProvider"])

for file, takes in (("original.onnx", True), ("optimised.onnx", True), ("slim.onnx", False)):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    try:
        session.run(None, {"signal": np.zeros(1, np.float32), "age": np.zeros(1, np.float32)})
        took = True
    except Exception as error:
        took = False
        expect("the refusal names the input", True, "age" in str(error))
    expect(f"{file} takes signal and age", takes, took)
EOF
finish
