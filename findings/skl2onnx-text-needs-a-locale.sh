#!/usr/bin/env bash
# A text classifier that skl2onnx converts needs the locale en_US.UTF-8, and a minimal system does not load it.
#
# Guess:    a vectoriser with scikit-learn's default options (lowercase=True) converts to a model that loads wherever ONNX
#           Runtime does: to lower the letters of a text needs no language.
# Truth:    it becomes the operator StringNormalizer without a locale, which ONNX Runtime takes for en_US.UTF-8. It opens that when
#           the model is loaded, and refuses the model where it is not installed, as on minimal Debian, in containers and on most
#           devices. The same model with the locale C.UTF-8 loads everywhere and answers the same.
# Versions: skl2onnx 1.20.0, scikit-learn 1.9.1, onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    the model passes on the data scientist's machine and in CI, and no device loads it. Read what a file needs before it is
#           sent; install the locale, or set the attribute to C.UTF-8.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
# No locales but those that are built in: the others are looked for in an empty folder.
mkdir "$folder/no-locales"
export LOCPATH="$folder/no-locales"
python_finding here <<'EOF'
import numpy as np, onnxruntime
from onnx import helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from finding import expect

texts, classes = np.array(["Good film", "bad film", "very GOOD", "very bad"]), [1, 0, 1, 0]
settings = onnxruntime.SessionOptions()
settings.log_severity_level = 4


def answers(model):
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        return "refused: " + str("Failed to construct locale with name:en_US.UTF-8" in str(error))
    return session.run(None, {"text": texts.reshape(-1, 1)})[0].tolist()


for lowercase, expected in ((True, "refused: True"), (False, [1, 0, 1, 0])):
    fitted = make_pipeline(CountVectorizer(lowercase=lowercase), LogisticRegression()).fit(texts, classes)
    model = convert_sklearn(fitted, initial_types=[("text", StringTensorType([None, 1]))], options={"zipmap": False})
    expect(f"without the locale, lowercase={lowercase}", expected, answers(model))
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            node.attribute.append(helper.make_attribute("locale", "C.UTF-8"))
    expect(f"with C.UTF-8, lowercase={lowercase}", [1, 0, 1, 0], answers(model))
EOF
finish
