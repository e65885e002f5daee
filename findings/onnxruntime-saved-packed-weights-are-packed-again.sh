#!/usr/bin/env bash
# ONNX Runtime packs weights again at each load, also where their packed copies were saved with the model to be mapped.
#
# Guess:    session.save_external_prepacked_constant_initializers writes the packed copies into the file of external weights, so
#           that a load maps them and has nothing left to do, as with weights that are not packed.
# Truth:    each kernel packs all the same, to find out by a hash which saved copy is its own, and throws away what it packed. A load
#           takes several times the processor time of one without packing, nearly that of one that packs. What is saved is
#           memory: the copies that remain are the mapped ones.
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6.
# Fleet:    it halves what a server of matrix multiplications owns, and lets two processes share it, at no cost of latency; a swap
#           that stalls for its load is not mended by it. Only session.disable_prepacking makes such a load short, and inferences
#           of several rows slower: measure both on the device.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import json, pathlib, subprocess, sys
import numpy as np, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from finding import expect

WIDTH, LAYERS = 1024, 16
NOT_PACKED, SAVED = "session.disable_prepacking", "session.save_external_prepacked_constant_initializers"
random = np.random.default_rng(1)
weights = [numpy_helper.from_array(random.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 32, f"w{n}") for n in range(LAYERS)]
nodes = [helper.make_node("MatMul", [f"x{n}", f"w{n}"], [f"x{n + 1}"]) for n in range(LAYERS)]
ends = [helper.make_tensor_value_info(f"x{n}", TensorProto.FLOAT, ["rows", WIDTH]) for n in (0, LAYERS)]
model = helper.make_model(helper.make_graph(nodes, "model", ends[:1], ends[1:], weights), ir_version=9,
                          opset_imports=[helper.make_opsetid("", 17)])


def saved(name, entry):
    """Save the model with its weights in a file beside it."""
    directory = pathlib.Path(name)
    directory.mkdir()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(directory / "model.onnx")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "model.data")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    options.add_session_config_entry(entry, "1")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return directory


# In a process of its own: the least processor time of five loads, and what the last one owns.
LOAD = """
import json, re, sys, time, onnxruntime
path, entry = sys.argv[1:]
own = lambda: int(re.search(r"Anonymous: +(\\d+)", open("/proc/self/smaps_rollup").read())[1])
seconds = []
for _each in range(5):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if entry:
        options.add_session_config_entry(entry, "1")
    session = None
    before, began = own(), time.process_time()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    seconds.append(time.process_time() - began)
print(json.dumps([min(seconds), own()]))
"""


def load(directory, entry=""):
    command = [sys.executable, "-c", LOAD, str(directory / "model.onnx"), entry]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


plain, packed = saved("plain", NOT_PACKED), saved("packed", SAVED)
(mapped, own_mapped), (anew, own_anew), (kept, own_kept) = load(plain, NOT_PACKED), load(plain), load(packed)
mebibytes = WIDTH * WIDTH * 4 * LAYERS >> 20
sizes = [(directory / "model.data").stat().st_size >> 20 for directory in (plain, packed)]
expect("MiB of weights, and in the files without and with packed copies", f"{mebibytes} 64 128", f"{mebibytes} {sizes[0]} {sizes[1]}")
expect("with packed copies saved, a load owns less than a third of the weights", True, own_kept - own_mapped < mebibytes * 340)
expect("without, it owns all of them", True, own_anew - own_mapped > mebibytes * 900)
expect("with packed copies saved, a load takes more than twice the processor time of one that packs nothing", True, kept > 2 * mapped)
expect("and more than a third of that of one that packs", True, kept > anew / 3)
print(f"  seen            processor time: {kept / mapped:.1f} times that of a load that packs nothing, {kept / anew:.2f} times that of one that packs; owned: {(own_kept - own_mapped) / 1024 / mebibytes:.2f} of the weights")
EOF
finish
