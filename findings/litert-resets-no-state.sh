#!/usr/bin/env bash
# LiteRT's `reset_all_variables()` does not reset a streaming model's memory, and neither does `allocate_tensors()`.
#
# Guess:    a streaming model that remembers the sound before begins anew after `Interpreter.reset_all_variables()`, or when its tensors are
#           allocated again: the next recording is answered as a new interpreter answers it.
# Truth:    state that TensorFlow's variables became (VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE) is not among those variables. After both
#           calls, and after both together, the answers go on exactly where they were: the first frames of one recording are
#           answered by what was heard in the one before. Only a new interpreter begins anew.
# Versions: ai-edge-litert 2.3.0; the wake-word models of pymicro-wakeword 2.5.0.
# Fleet:    one interpreter for several microphones, or for one after a pause, wakes by what another one heard. Golden outputs hold once: the
#           second check of a sound device fails. Make an interpreter for each stream, and for each check.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here ai-edge-litert==2.3.0 pymicro-wakeword==2.5.0 numpy==2.4.6
python_finding here <<'EOF'
from importlib.util import find_spec
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from finding import expect

MODEL = find_spec("pymicro_wakeword").submodule_search_locations[0] + "/models/okay_nabu.tflite"
random = np.random.default_rng(0)
SOUND = random.integers(-128, 127, (30, 1, 3, 40)).astype(np.int8)
SILENCE = np.full((12, 1, 3, 40), -128, np.int8)


def new():
    interpreter = Interpreter(MODEL, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def answers(interpreter, frames):
    found = []
    for frame in frames:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame)
        interpreter.invoke()
        found.append(int(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).item()))
    return found


def after_sound(*calls):
    """What silence is answered with behind some sound, and these calls between them."""
    interpreter = new()
    answers(interpreter, SOUND)
    for call in calls:
        getattr(interpreter, call)()
    return answers(interpreter, SILENCE)


expected, carried = answers(new(), SILENCE), after_sound()
print(f"  silence: a new interpreter {expected}, behind some sound {carried}")
expect("two new interpreters agree", True, answers(new(), SILENCE) == expected)
expect("silence behind some sound is answered otherwise", True, carried != expected)
for calls in (["reset_all_variables"], ["allocate_tensors"], ["reset_all_variables", "allocate_tensors"]):
    found = after_sound(*calls)
    expect(f"after {' and '.join(calls)}, as a new interpreter", False, found == expected)
    expect(f"after {' and '.join(calls)}, as without", True, found == carried)
EOF
finish
