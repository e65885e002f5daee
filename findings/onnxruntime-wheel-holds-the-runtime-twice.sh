#!/usr/bin/env bash
# onnxruntime's wheel brings the runtime twice, and Python uses one of them.
#
# Guess:    `libonnxruntime.so` in the wheel is the runtime, and the Python module beside it a thin binding that loads it.
# Truth:    the module has the whole runtime linked into it. The library of the same size beside it is opened by nothing: without it a
#           session is made and answers the same. It is two fifths and more of what the wheel takes on the disk, in the wheel for
#           aarch64 as in that for x86-64.
# Versions: onnxruntime 1.32.0, its wheels for Python 3.11 on x86-64 and aarch64.
# Fleet:    27 MB more on each device's SD card, in each image's layer and over each metered link, for a file that no one reads.
#           Programs in C or Rust on the same device can use it; where there are none it can be left out.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$folder/here/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.11 \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --dest "$folder/arm" onnxruntime==1.32.0 2>"$folder/pip.log" ||
    cannot "pip download: $(tail -n 1 "$folder/pip.log")"

python_finding here "$folder"/arm/*.whl <<'END'
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from finding import expect

MODEL = """
import numpy, onnx, onnxruntime
from onnx import TensorProto, helper
graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double",
                          [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
print(session.run(None, {"x": numpy.array([1, 2], numpy.float32)})[0].tolist())
mapped = {line.split()[-1].rpartition("/")[2] for line in open("/proc/self/maps")}
print(any(name.startswith("libonnxruntime.so") for name in mapped))
"""


def answer():
    """The model's answer, and whether the library was mapped, in a process of its own."""
    return subprocess.run([sys.executable, "-c", MODEL], capture_output=True, text=True, check=True).stdout.split("\n")[:2]


def share(sizes):
    """How much of the wheel the library is."""
    library = sum(size for name, size in sizes.items() if "/libonnxruntime.so" in name)
    return "two fifths and more" if library >= 0.4 * sum(sizes.values()) else f"{library / sum(sizes.values()):.2f}"


package = Path(sysconfig.get_paths()["purelib"], "onnxruntime")
files = {str(path): path.stat().st_size for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
expect("the library's share, x86-64", "two fifths and more", share(files))
with zipfile.ZipFile(sys.argv[1]) as wheel:
    expect("the library's share, aarch64", "two fifths and more", share({file.filename: file.file_size for file in wheel.infolist()}))
expect("the answer, and whether the library is mapped", ["[2.0, 4.0]", "False"], answer())
for library in package.glob("capi/libonnxruntime.so*"):
    library.unlink()
expect("the answer without the library", ["[2.0, 4.0]", "False"], answer())
END
finish
