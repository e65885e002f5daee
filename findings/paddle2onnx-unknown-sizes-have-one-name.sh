#!/usr/bin/env bash
# Sizes of one name in an ONNX model of Paddle's exporter are not equal: "?" is its name for each that it does not know.
#
# Guess:    a name in a shape is one variable (ONNX: "all instances of the same name have the same value"), so that a server may
#           refuse a request whose sizes of one name differ.
# Truth:    Paddle's exporter names every unknown size "?". The classifier of text directions that the OCR packages ship takes
#           images of 48 x 192, and declares both sizes as "?".
# Versions: rapidocr-onnxruntime 1.4.4 (ch_ppocr_mobile_v2.0_cls_infer.onnx), onnxruntime 1.32.0.
# Fleet:    the check that every shared name deserves (the runtime makes none) refuses each valid image of such a model, and
#           the release looks broken on every device. "?" has to count as no name.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxruntime==1.32.0 numpy==2.4.6
"$folder/here/bin/pip" install --quiet --disable-pip-version-check --no-deps rapidocr-onnxruntime==1.4.4 ||
    cannot "pip install rapidocr-onnxruntime"
python_finding here <<'EOF'
import importlib.metadata
import numpy as np, onnxruntime
from finding import expect

(file,) = [each for each in importlib.metadata.files("rapidocr-onnxruntime") if each.name.endswith("cls_infer.onnx")]
session = onnxruntime.InferenceSession(str(file.locate()), providers=["CPUExecutionProvider"])
(given,) = session.get_inputs()
expect("declared shape", [None, 3, "?", "?"], given.shape)
(scores,) = session.run(None, {given.name: np.zeros((1, 3, 48, 192), np.float32)})
expect("shape of the answer for an image of 48 x 192", (1, 2), scores.shape)
EOF
finish
