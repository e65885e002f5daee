#!/usr/bin/env bash
# `numpy.savez` leaves out an array that is called `allow_pickle`, and gives the wrong one for a name that ends with `.npy`.
#
# Guess:    `numpy.savez(path, **arrays)` keeps every array under its name, or raises; what comes back is what went in.
# Truth:    arrays share one name space with the function's own arguments: `file` raises a TypeError, `allow_pickle`, an argument
#           since numpy 2.2, is taken for one, and the file lacks the array without a word. `x` beside `x.npy`: both names are
#           listed, and both give the array of `x`.
# Versions: numpy 1.26.4 (keeps `allow_pickle`), 2.4.6.
# Fleet:    samples and golden outputs go by the names of a model's tensors, which exporters choose. A holdout that lost an input,
#           or has another one's values, judges the model wrongly. Write the members of the archive by `numpy.lib.format`, one by one.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install older numpy==1.26.4
install newer numpy==2.4.6
for name in older newer; do
    python_finding $name $name <<'END'
import sys

import numpy as np
from finding import expect


def kept(**arrays):
    """Each name in the file with how many values it gives."""
    np.savez("arrays.npz", **arrays)
    with np.load("arrays.npz") as file:
        return {name: file[name].size for name in sorted(file.files)}


older = sys.argv[1] == "older"
print(f"numpy {np.__version__}")
expect("one of 1 value, one of 3", {"image": 1, "mask": 3}, kept(image=np.ones(1), mask=np.ones(3)))
expected = {"allow_pickle": 3, "image": 1} if older else {"image": 1}
expect("the second one called allow_pickle", expected, kept(image=np.ones(1), allow_pickle=np.ones(3)))
expect("called like the first, and .npy", {"image": 1, "image.npy": 1}, kept(**{"image": np.ones(1), "image.npy": np.ones(3)}))
try:
    kept(**{"file": np.ones(3)})
    raised = "nothing"
except TypeError:
    raised = "TypeError"
expect("called file, raises", "TypeError", raised)
END
done
finish
