#!/usr/bin/env bash
# A dynamically quantised model gives a row another answer when another client's row is in its batch.
#
# Guess:    rows of a batch are independent, so a server may put requests of several clients into one batch: at most the last
#           bits differ.
# Truth:    dynamic quantisation takes one range over the whole input, all rows. A quiet row beside a loud one is left with a few
#           steps of the scale: here its answer changes by more than the whole error of quantisation, and its class flips.
#           The float model gives the same answer alone and in company.
# Versions: onnxruntime 1.32.0 (quantize_dynamic with its own options), onnx 1.23.2.
# Fleet:    answers change with the load, and no test of single rows sees it; golden outputs pass. Batch such models only by what
#           one client sent together, or quantise with fixed ranges.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import logging
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from finding import expect

logging.disable(logging.WARNING)
random = np.random.default_rng(0)
weight = random.standard_normal((64, 10), dtype=np.float32)
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size]) for name, size in (("input", 64), ("output", 10))]
node = helper.make_node("MatMul", ["input", "weight"], ["output"])
graph = helper.make_graph([node], "model", ends[:1], ends[1:], [numpy_helper.from_array(weight, "weight")])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "float.onnx")
quantize_dynamic("float.onnx", "int8.onnx")

rows = random.standard_normal((200, 64), dtype=np.float32)
loud = 100 * random.standard_normal((1, 64), dtype=np.float32)


def answers(file, company):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return np.array([session.run(None, {"input": np.vstack([row[None], *company])})[0][0] for row in rows])


reference = answers("float.onnx", [])
alone, beside = answers("int8.onnx", []), answers("int8.onnx", [loud])
flipped = float((alone.argmax(1) != beside.argmax(1)).mean())
error, error_beside = abs(alone - reference).max(), abs(beside - reference).max()
print(f"  error alone {error:.2f}, beside a loud row {error_beside:.2f}, classes that flip {flipped:.0%}")
expect("float: the same alone and in company", True, bool(np.allclose(reference, answers("float.onnx", [loud]), atol=1e-4)))
expect("int8: the error at least tenfold in company", True, bool(error_beside > 10 * error))
expect("int8: more than a fifth of the classes flip", True, flipped > 0.2)
EOF
finish
