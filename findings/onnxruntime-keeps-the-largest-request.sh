#!/usr/bin/env bash
# An ONNX Runtime session keeps the memory of its largest request until it is closed.
#
# Guess:    what a request needed is free again when it is answered, at least for the next model in the same process.
# Truth:    the session's arena keeps it: after one batch of 200 images a small convolution owns some 200 MB more, with however
#           many small requests after it. The run option `memory.enable_memory_arena_shrinkage` gives it back at the end of that
#           run; so does a session without arena. The option is an error, not ignored, where there is no arena.
# Versions: onnxruntime 1.32.0, onnx 1.23.2 (bounds are wide: 100 MB, 50 MB).
# Fleet:    one client's batch fills a device's memory for good, once for each model. The headroom that was measured after the
#           smoke test is gone at the next swap, which has to hold two versions.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
for way in plain shrinking without-arena; do
    python_finding here $way <<'EOF'
import sys
import numpy as np, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from finding import expect


def resident_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmRSS"))


way, batch = sys.argv[1], 200
weight = numpy_helper.from_array(np.ones((16, 3, 3, 3), np.float32), "weight")
nodes = [
    helper.make_node("Conv", ["input", "weight"], ["features"], pads=[1] * 4),
    helper.make_node("GlobalAveragePool", ["features"], ["output"]),
]
image, answer = [
    helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", *shape])
    for name, shape in (("input", [3, 128, 128]), ("output", [16, 1, 1]))
]
graph = helper.make_graph(nodes, "model", [image], [answer], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
options, run = onnxruntime.SessionOptions(), onnxruntime.RunOptions()
options.enable_cpu_mem_arena = way != "without-arena"
if way == "shrinking":
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
small, large = np.ones((1, 3, 128, 128), np.float32), np.ones((batch, 3, 128, 128), np.float32)
session.run(None, {"input": small})
before = resident_mb()
session.run(None, {"input": large}, run)
for _ in range(20):
    session.run(None, {"input": small})
kept = resident_mb() - before
del session
closed = resident_mb() - before
print(f"  {way}: kept {kept} MB after a large request, {closed} MB when the session was closed")
if way == "plain":
    expect("keeps more than 100 MB", True, kept > 100)
    expect("until it is closed", True, closed < 50)
else:
    expect("keeps less than 50 MB", True, kept < 50)
EOF
done
finish
