#!/usr/bin/env bash
# ONNX Runtime saves a model with its packed weights without a word, and cannot load what it saved.
#
# Guess:    what a session writes with session.save_external_prepacked_constant_initializers the same runtime loads; a kernel whose
#           packed weights cannot be saved is left out.
# Truth:    the kernel of QLinearConv with inputs of INT8 has two buffers of packed weights, of which one may be empty. It is written as
#           one of 0 bytes at some offset, and to read it at the next load fails with an unexpected end of the file. With inputs of
#           UINT8 nothing is saved, and the model loads.
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6.
# Fleet:    a pipeline that optimises models on the desk, or a device that does it for itself, has a file that passed every step
#           but the last. Load what was saved, with the golden inputs, before it takes anything's place.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from finding import expect

CPU = ["CPUExecutionProvider"]


def session(model, **entries):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if entries:
        options.optimized_model_filepath = entries.pop("path")
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    return onnxruntime.InferenceSession(model, options, providers=CPU)


def outcome(datatype, zero):
    name = np.dtype(zero.dtype).name
    weights = np.random.default_rng(1).integers(-100, 100, (64, 64, 1, 1)).astype(np.int8)
    constants = [numpy_helper.from_array(value, key) for key, value in (
        ("scale", np.float32(0.1)), ("zero", zero), ("w", weights), ("w_zero", np.int8(0)))]
    node = helper.make_node("QLinearConv", ["x", "scale", "zero", "w", "scale", "w_zero", "scale", "zero"], ["y"])
    ends = [helper.make_tensor_value_info(end, datatype, ["n", 64, 4, 4]) for end in "xy"]
    model = helper.make_model(helper.make_graph([node], "model", ends[:1], ends[1:], constants), ir_version=9,
                              opset_imports=[helper.make_opsetid("", 17)])
    session(model.SerializeToString()).run(None, {"x": np.zeros((1, 64, 4, 4), zero.dtype)})
    session(model.SerializeToString(), path=f"{name}.onnx", save_external_prepacked_constant_initializers="1",
            optimized_model_external_initializers_file_name=f"{name}.data",
            optimized_model_external_initializers_min_size_in_bytes="1024")
    saved = onnx.load(f"{name}.onnx", load_external_data=False)
    kept = any(entry.key.startswith("prepacked") for tensor in saved.graph.initializer for entry in tensor.external_data)
    try:
        session(f"{name}.onnx")
        loads = "loads"
    except Exception as error:
        loads = "unexpected end of file" if "unexpected end of file" in str(error) else str(error)
    return f"packed copies saved: {kept}, then: {loads}"


expect("inputs of UINT8", "packed copies saved: False, then: loads", outcome(TensorProto.UINT8, np.uint8(128)))
expect("inputs of INT8", "packed copies saved: True, then: unexpected end of file", outcome(TensorProto.INT8, np.int8(0)))
EOF
finish
