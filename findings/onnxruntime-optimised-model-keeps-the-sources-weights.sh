#!/usr/bin/env bash
# An optimised model that ONNX Runtime writes goes on to name the weight file of the model that it was made from.
#
# Guess:    `optimized_model_filepath` writes a model: the file, or the folder where it lies, can be taken elsewhere.
# Truth:    weights that the optimiser left alone stay references into the source's external file, by the relative name that it has
#           there. In another folder the new model does not load; in one that has a file of that name, as the next version's has, it
#           loads with that file's values and answers wrongly. Only `session.optimized_model_external_initializers_file_name` writes
#           all weights anew.
# Versions: onnx 1.23.2, onnxruntime 1.32.0.
# Fleet:    devices keep an optimised form beside the model because it loads quicker. PyTorch's exporter writes external weights
#           since 2.9, so this meets nearly every new network: two versions whose files have the same names are mixed without an
#           error. Name the option, give the form a folder of its own, and ask it the golden inputs before it serves.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnx==1.23.2 onnxruntime==1.32.0
python_finding here <<'END'
import os
import shutil

import numpy as np
import onnx
import onnxruntime
from finding import expect
from onnx import TensorProto, helper, numpy_helper

OPTION = "session.optimized_model_external_initializers_file_name"
SIZE = 64


def write(folder, value):
    """A model that multiplies by a matrix of this value; its weights lie in `weights`, beside it."""
    os.makedirs(folder)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", SIZE]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.full((SIZE, SIZE), value, np.float32), "weight")
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    model = helper.make_model(
        helper.make_graph(nodes, "model", ends[:1], ends[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, f"{folder}/model.onnx", save_as_external_data=True, location="weights", size_threshold=0)


def session(path, options=None):
    options = options or onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def optimise(source, target, **entries):
    os.makedirs(target, exist_ok=True)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{target}/model.onnx"
    for key, value in entries.items():
        options.add_session_config_entry(OPTION if key == "weights" else key, value)
    session(f"{source}/model.onnx", options)


def answer(folder):
    try:
        return float(session(f"{folder}/model.onnx").run(None, {"x": np.ones((1, SIZE), np.float32)})[0][0, 0])
    except Exception as error:
        return "not loaded: no such file" if "does not exist" in str(error) else f"{type(error).__name__}: {error}"


write("one", 1.0)
write("two", 2.0)
expect("the first version's answer", 64.0, answer("one"))
optimise("one", "elsewhere")
expect("files of the optimised form", ["model.onnx"], os.listdir("elsewhere"))
expect("its answer", "not loaded: no such file", answer("elsewhere"))
shutil.copy("two/weights", "elsewhere/weights")
expect("its answer beside the second version's weights", 128.0, answer("elsewhere"))
optimise("one", "complete", weights="weights.optimised")
shutil.copy("two/weights", "complete/weights")
expect("the same with the option", 64.0, answer("complete"))
END
finish
