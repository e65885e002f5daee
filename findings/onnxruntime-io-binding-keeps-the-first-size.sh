#!/usr/bin/env bash
# An output that IO binding leaves to ONNX Runtime has the size of the first request for good, and its arrays change with the next one.
#
# Guess:    `bind_output("y")` without a buffer has the runtime allocate what each run needs, as `run` does; what
#           `get_outputs()[0].numpy()` gave is the answer of that run.
# Truth:    the first run allocates, and the next ones write into the same place: a request of another size fails ("has shape {3} but
#           the computed output shape is {5}"), though the model takes any; one of the same size overwrites the array that the
#           request before was given. `copy_outputs_to_cpu()` copies, and `bind_output` before each run allocates anew.
# Versions: onnxruntime 1.23.2 and 1.32.0, onnx 1.23.2.
# Fleet:    IO binding is advised for speed, and a test with one request, or with requests of one size one after the other, passes. In the
#           field, two clients whose answers are on the way at once both get the second one's. Bind outputs before each run.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

for version in 1.23.2 1.32.0; do
    install "$version" onnxruntime=="$version" onnx==1.23.2 numpy==2.4.6
    python_finding "$version" <<'EOF'
import numpy as np, onnxruntime
from onnx import TensorProto, helper
from finding import expect

ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "model", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnxruntime.set_default_logger_severity(4)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
three, other_three, five = (np.array(values, np.float32) for values in ([1, 2, 3], [4, 5, 6], [1, 2, 3, 4, 5]))
binding = session.io_binding()


def answer(values):
    binding.bind_cpu_input("x", values)
    session.run_with_iobinding(binding)
    return binding.get_outputs()[0].numpy()


def size_of(values):
    try:
        return len(answer(values))
    except Exception as error:
        return "refused" if "shape" in str(error) else str(error)


binding.bind_output("y")
first = answer(three)
copied = binding.copy_outputs_to_cpu()[0]
expect("the first answer", [-1, -2, -3], first.tolist())
answer(other_three)
expect("the first answer, after the second request", [-4, -5, -6], first.tolist())
expect("its copy", [-1, -2, -3], copied.tolist())
expect("a request of five", "refused", size_of(five))
binding.bind_output("y")
expect("a request of five, bound anew", 5, size_of(five))
expect("the same by run, after one of three", [3, 5], [len(session.run(None, {"x": values})[0]) for values in (three, five)])
kept = session.run(None, {"x": three})[0]
session.run(None, {"x": other_three})
expect("the first answer by run, after the second request", [-1, -2, -3], kept.tolist())
EOF
done
finish
