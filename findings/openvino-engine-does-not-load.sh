#!/usr/bin/env bash
# ONNX Runtime's OpenVINO provider saves what it compiled for the CPU, and cannot load it.
#
# Guess:    `ep.context_enable` has a provider save its compiled form of a model (an "EP context" model), which the same provider, of the
#           same version, on the same machine, then loads in the place of the ONNX file. That is what the option is for.
# Truth:    With OpenVINO on the CPU the session that saves works and answers right, both files are written, no line says anything;
#           and loading them fails, in one file or two, in the same process or another, for fixed and variable batches.
# Versions: onnxruntime-openvino 1.24.1 (OpenVINO 2025.4), Python 3.11, x86-64; the same with 1.22.0 and 1.23.0.
# Fleet:    an engine that is kept at staging, to be loaded when a version becomes active, is worth nothing until it was loaded once, in
#           another process, and answered the golden inputs. Keep the ONNX file beside it, always. Qualcomm's provider loads its own.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime-openvino==1.24.1 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import os
import numpy as np, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from finding import expect

PROVIDERS = [("OpenVINOExecutionProvider", {"device_type": "CPU"}), "CPUExecutionProvider"]
matrix = numpy_helper.from_array(np.eye(4, dtype=np.float32) * 2, "matrix")
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("input", "output")]
graph = helper.make_graph([helper.make_node("MatMul", ["input", "matrix"], ["output"])], "model", ends[:1], ends[1:], [matrix])
with open("model.onnx", "wb") as file:
    file.write(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def session(path, **entries):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for key, value in entries.items():
        options.add_session_config_entry(f"ep.context_{key}", value)
    return onnxruntime.InferenceSession(path, options, providers=PROVIDERS)


saving = session("model.onnx", enable="1", file_path=os.path.abspath("engine.onnx"), embed_mode="0")
expect("the provider is there", True, "OpenVINOExecutionProvider" in saving.get_providers())
answer = saving.run(None, {"input": np.ones((1, 4), np.float32)})[0]
expect("the session that saves answers", [2.0] * 4, answer[0].tolist())
expect("files that it wrote", 2, sum(name.startswith("engine") for name in os.listdir(".")))
try:
    session("engine.onnx")
    loads = "yes"
except Exception as error:
    loads = type(error).__name__
expect("loading them", "EPFail", loads)
EOF
finish
