#!/usr/bin/env bash
# onnx's version converter lifts an old model to a newer opset, and it answers something else.
#
# Guess:    `convert_version` keeps what a model computes, or refuses; that is what a version converter is for.
# Truth:    Upsample of opset 9 and Resize of opset 10 place their pixels by one rule, Resize from opset 11 on by another one by
#           default; the converter does not write the old rule down. Nearest pixels and linear interpolation at a scale of 1.7
#           both change, without a warning, and the checker is content. Hardmax changes in the step to opset 13, where its axis
#           got another meaning; Softmax, which changed likewise, is converted right.
# Versions: onnx 1.23.2, onnxruntime 1.32.0.
# Fleet:    "convert it to what the device's runtime takes" is the usual advice for an old segmentation or detection model. Its
#           masks move, its accuracy falls by a little, and nothing says why. Compare outputs before and after, always.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter
from finding import expect


def model(opset, operator, *constants, **attributes):
    names = [f"constant{number}" for number in range(len(constants))]
    graph = helper.make_graph(
        [helper.make_node(operator, ["input", *names], ["output"], **attributes)],
        "model",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(constant, name) for constant, name in zip(constants, names)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def answer(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": image})[0]


image = np.random.default_rng(0).standard_normal((1, 3, 4, 4), dtype=np.float32)
scale = np.array([1, 1, 1.7, 1.7], np.float32)
for what, old, target, same in (
    ("Upsample, nearest, 9 to 11", model(9, "Upsample", scale, mode="nearest"), 11, False),
    ("Upsample, linear, 9 to 11", model(9, "Upsample", scale, mode="linear"), 11, False),
    ("Resize, nearest, 10 to 11", model(10, "Resize", scale, mode="nearest"), 11, False),
    ("Resize, linear, 10 to 17", model(10, "Resize", scale, mode="linear"), 17, False),
    ("Hardmax, 11 to 13", model(11, "Hardmax", axis=1), 13, False),
    ("Softmax, 11 to 13", model(11, "Softmax", axis=1), 13, True),
):
    new = version_converter.convert_version(old, target)
    onnx.checker.check_model(new, full_check=True)
    before, after = answer(old), answer(new)
    expect(what, f"same answer {same}", f"same answer {bool(np.allclose(before, after, atol=1e-5))}")
EOF
finish
