#!/usr/bin/env bash
# Clearing a field of a protobuf message frees nothing: the weights of a model stay in memory until the whole message goes.
#
# Guess:    ClearField("raw_data") on the initialisers of an ONNX model gives their memory back, as `del` does with a bytes object.
# Truth:    all of a message's fields live in one arena, which only grows: a cleared or replaced field stays there until no object
#           refers to the message or to any part of it. A copy made by parsing what is left is small.
# Versions: protobuf 6.33.2 (upb) with onnx 1.20.0; Python's own bytes as the control.
# Fleet:    a converter that moves weights to a file beside the graph, to stay below a board's or a CI runner's memory, needs as
#           much as before. Serialise what is left, drop the message, and parse it anew.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here protobuf==6.33.2 onnx==1.20.0
python_finding here <<'EOF'
import gc

from google.protobuf.internal import api_implementation
from onnx import ModelProto
from finding import expect

MIB = 1 << 20
WEIGHTS = 64 * MIB


def resident():
    """MiB of this process's own memory."""
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) // 1024


def stays(before):
    """Whether most of the weights are in memory beyond `before`."""
    return resident() - before > WEIGHTS // MIB // 2


expect("protobuf's implementation", "upb", api_implementation.Type())
start = resident()
model = ModelProto()
model.graph.initializer.add(name="weights").raw_data = bytes(1) * WEIGHTS
expect("in memory with its weights", True, stays(start))
model.graph.initializer[0].ClearField("raw_data")
expect("in memory after ClearField", True, stays(start))
expect("bytes of what is left", True, len(model.SerializeToString()) < 100)
del model.graph.initializer[:]
expect("in memory after the initialiser is deleted", True, stays(start))
rest = model.SerializeToString()
del model
expect("in memory after the message went", False, stays(start))
parsed = ModelProto.FromString(rest)
expect("in memory with what was left, parsed anew", False, stays(start))

control = [bytes(1) * WEIGHTS]
expect("control: in memory as bytes", True, stays(start))
control.clear()
expect("control: in memory after the list is cleared", False, stays(start))
EOF
finish
