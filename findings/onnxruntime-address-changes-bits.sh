#!/usr/bin/env bash
# ONNX Runtime gives other last bits for the same numbers at another address.
#
# Guess:    one session, one thread, the same input twice: the same bits. What differs between runs is left to threads, to other
#           processors and to other versions.
# Truth:    a sum begins with what lies before the next multiple of 16 bytes, so that its order, and with it the last bits of a
#           mean, a normalisation or a softmax, depends on the address of the input modulo 16. NumPy's own arrays always begin
#           at such a multiple; a view into the body of a request (numpy.frombuffer behind a JSON header of any length) does not.
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6.
# Fleet:    two devices with the same model, and one device asked twice, answer differently because a request's id is one
#           character longer. A comparison of a new version with the old one to the last bit, or a cache by digest, sees
#           differences that are none. A server copies what does not begin at a multiple of 16.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnxruntime
from onnx import TensorProto, helper
from finding import expect

SIZE = 1001
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [SIZE]), ("mean", []))]
graph = helper.make_graph([helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0)], "model", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
numbers = np.random.default_rng(1).normal(size=SIZE).astype(np.float32)
memory = np.zeros(numbers.nbytes + 128, np.uint8)


def answers(offsets):
    found = set()
    for offset in offsets:
        start = -memory.ctypes.data % 64 + offset
        x = memory[start : start + numbers.nbytes].view(np.float32)
        x[:] = numbers
        found.add(session.run(None, {"x": x})[0].tobytes())
    return len(found)


expect("different answers at multiples of 16 bytes", 1, answers(range(0, 64, 16)))
expect("more than one answer at multiples of 4 bytes", True, answers(range(0, 64, 4)) > 1)
EOF
finish
