#!/usr/bin/env bash
# onnx and ONNX Runtime disagree on which links external weights may hang on, and both changed their minds.
#
# Guess:    a model whose weights lie in a file beside it loads wherever opening that file works, and a file that the runtime
#           serves can be checked and quantised by onnx.
# Truth:    onnx 1.23 refuses weights with more than one hard link ("hardlink attack"), 1.19 does not; ONNX Runtime serves them.
#           The runtime refuses a weight file that is a symbolic link out of the model's folder, 1.23 serves it.
# Versions: onnx 1.19.1 and 1.23.2, onnxruntime 1.23.2, 1.32.0.
# Fleet:    a content-addressed store has every file once and gives it its names by links. Which kind of link it takes decides
#           whether a device answers after the next upgrade of its runtime, and whether its model can be inspected at all.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install older onnx==1.19.1 onnxruntime==1.23.2
install newer onnx==1.23.2 onnxruntime==1.32.0
for name in older newer; do
    python_finding $name $name <<'EOF'
import os, shutil, sys
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from finding import expect


def opens(how):
    try:
        how()
        return "yes"
    except Exception as error:
        return "refused" if "link" in str(error) or "escapes" in str(error) else f"{type(error).__name__}: {error}"


root = sys.argv[1] + ".models"
for folder in ("blobs", "hard", "symbolic"):
    os.makedirs(f"{root}/{folder}")
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 64]) for name in ("input", "output")]
weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "weight")
graph = helper.make_graph([helper.make_node("MatMul", ["input", "weight"], ["output"])], "model", ends[:1], ends[1:], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, f"{root}/blobs/model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
for folder in ("hard", "symbolic"):
    shutil.copy(f"{root}/blobs/model.onnx", f"{root}/{folder}/model.onnx")
os.symlink("../blobs/weights", f"{root}/symbolic/weights")
linked = {
    "symbolic": {"older": ("yes", "yes"), "newer": ("refused", "refused")},
    "hard": {"older": ("yes", "yes"), "newer": ("yes", "refused")},
}
for kind, expected in linked.items():
    if kind == "hard":
        os.link(f"{root}/blobs/weights", f"{root}/hard/weights")
    path = f"{root}/{kind}/model.onnx"
    serve, load = expected[sys.argv[1]]
    expect(f"weights by a {kind} link, served by onnxruntime {onnxruntime.__version__}", serve,
           opens(lambda: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])))
    expect(f"weights by a {kind} link, loaded by onnx {onnx.__version__}", load, opens(lambda: onnx.load(path)))
EOF
done
finish
