#!/usr/bin/env bash
# ONNX Runtime's text inputs take anything, and see its Python spelling.
#
# Guess:    an array of bytes objects given to a model's text input is taken as UTF-8, or refused; None and numbers are refused.
# Truth:    each object is turned into text by Python's str(): b"red" becomes the six characters b'red' with its
#           quotes, None becomes "None", 1.5 becomes "1.5". No error: a category that the model knows becomes one that it does
#           not know, or a text of other words.
# Versions: onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    the binary extension of the Open Inference Protocol hands a server bytes. A model with a text column answers every
#           request, by its default for unknown categories. Decode first, and refuse what is no text.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnxruntime
from onnx import TensorProto, helper
from finding import expect

ends = [
    helper.make_tensor_value_info("colour", TensorProto.STRING, ["rows"]),
    helper.make_tensor_value_info("output", TensorProto.INT64, ["rows"]),
]
encoder = helper.make_node(
    "LabelEncoder", ["colour"], ["output"], domain="ai.onnx.ml", keys_strings=["red", "green"], values_int64s=[1, 2], default_int64=-1)
graph = helper.make_graph([encoder], "model", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8)
encode = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

same = helper.make_node("Identity", ["colour"], ["output"])
ends[1] = helper.make_tensor_value_info("output", TensorProto.STRING, ["rows"])
graph = helper.make_graph([same], "model", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
spell = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

for value, text, category in (("red", "red", 1), (b"red", "b'red'", -1), (None, "None", -1), (1.5, "1.5", -1)):
    column = {"colour": np.array([value], object)}
    expect(f"{value!r} is seen as", text, str(spell.run(None, column)[0][0]))
    expect(f"{value!r} is of category", category, int(encode.run(None, column)[0][0]))
EOF
finish
