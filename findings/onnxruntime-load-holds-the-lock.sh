#!/usr/bin/env bash
# ONNX Runtime held Python's lock while it loaded a model, in every release up to 1.30; from 1.31 on it does not.
#
# Guess:    a server loads the next model in a thread, and its other threads go on, since the runtime is C++ and lets go of the
#           lock while it infers.
# Truth:    up to 1.30 the session's constructor keeps the lock for most of the load: another thread stands still for 70% to 90%
#           of it. With 1.31 and later the same file stalls it for some milliseconds.
# Versions: onnxruntime 1.30.0 and 1.32.0, onnx 1.23.2. The shares are bounded widely, for a busy machine.
# Fleet:    a swap without a restart still stops all requests for as long as the load takes, on a Pi for seconds; and a watchdog
#           that is fed by a Python thread kills the service in the middle of a swap. One version of the runtime decides it.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install now onnxruntime==1.32.0 onnx==1.23.2
install before onnxruntime==1.30.0

"$folder/now/bin/python" - "$folder/model.onnx" <<'EOF'
import sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(0)
names = [f"layer{number}" for number in range(25)]  # of 4 MiB each
nodes = [helper.make_node("MatMul", [before, f"{name}.weight"], [name]) for before, name in zip(["input", *names], names)]
weights = [numpy_helper.from_array(random.standard_normal((1024, 1024), dtype=np.float32), f"{name}.weight") for name in names]
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1024]) for name in ("input", names[-1])]
graph = helper.make_graph(nodes, "model", ends[:1], ends[1:], weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), sys.argv[1])
EOF

for name in before now; do
    python_finding $name $name "$folder/model.onnx" <<'EOF'
import sys, threading, time
import onnxruntime
from finding import expect


def stall_share():
    """The longest time for which another thread stood still, as a share of one load."""
    longest, ended = 0.0, threading.Event()

    def tick():
        nonlocal longest
        last = time.perf_counter()
        while not ended.is_set():
            time.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    ticking = threading.Thread(target=tick)
    ticking.start()
    time.sleep(0.1)
    longest, begin = 0.0, time.perf_counter()
    onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
    seconds = time.perf_counter() - begin
    time.sleep(0.02)
    ended.set()
    ticking.join()
    return longest / seconds


share = sorted(stall_share() for _ in range(7))[3]
print(f"  onnxruntime {onnxruntime.__version__}: another thread stood still for {share:.0%} of a load (median of 7)")
expect("for more than 30% of it", sys.argv[1] == "before", share > 0.3)
EOF
done
finish
