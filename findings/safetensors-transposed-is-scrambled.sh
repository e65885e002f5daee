#!/usr/bin/env bash
# safetensors writes a transposed NumPy array with its values in another order, without a word.
#
# Guess:    what `safetensors.numpy.save` writes, `load` reads as the same array, or it refuses arrays that it cannot write (for
#           PyTorch it does: such tensors must be made contiguous first).
# Truth:    of a transposed or Fortran-ordered array it writes the memory as it lies, with the shape of the view: same shape, same
#           type, the values at other places. The sums agree, so a checksum of the values would not tell.
# Versions: safetensors 0.8.0, NumPy 2.4.6.
# Fleet:    weights and golden tensors are often views (`weight.T` of a dense layer, a colour axis moved). The file is valid, its
#           digest is stable, its signature verifies, and the model's answers are wrong. Save `np.ascontiguousarray(array)`.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here safetensors==0.8.0 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np
from safetensors.numpy import load, save
from finding import expect

weight = np.arange(6, dtype=np.float32).reshape(2, 3)
for name, array in (("as it is", weight), ("transposed", weight.T), ("Fortran order", np.asfortranarray(weight))):
    back = load(save({"weight": array}))["weight"]
    expect(f"{name}: same shape", True, back.shape == array.shape)
    expect(f"{name}: same values", name == "as it is", bool(np.array_equal(back, array)))
back = load(save({"weight": np.ascontiguousarray(weight.T)}))["weight"]
expect("transposed, made contiguous: same values", True, bool(np.array_equal(back, weight.T)))
EOF
finish
