#!/usr/bin/env bash
# skl2onnx converts a classifier whose threshold was tuned, and leaves the threshold out.
#
# Guess:    `TunedThresholdClassifierCV` is the classifier with the threshold that its training chose; the converter keeps it, or refuses
#           it, as it refuses `FixedThresholdClassifier`.
# Truth:    it is converted as the classifier within. The scores agree to six digits, and the labels are those of one half again: of
#           held-out rows of a medical data set more than a tenth are labelled otherwise, all in the direction that the tuning was
#           to prevent.
# Versions: skl2onnx 1.20.0, scikit-learn 1.9.1, onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    the threshold is the business of such a model: how many faults may be missed. A comparison of scores, of the area under the
#           curve, or by "close enough" passes; each device misses what the desk finds. Compare labels too, or publish the inner
#           classifier's scores and apply `best_threshold_` where they are read.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnxruntime
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import fbeta_score, make_scorer, recall_score
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skl2onnx import to_onnx
from finding import expect

rows, benign = load_breast_cancer(return_X_y=True)
rows, malignant = rows.astype(np.float32), 1 - benign
learnt, held, learnt_classes, held_classes = train_test_split(rows, malignant, random_state=0)


def classifier():
    return make_pipeline(StandardScaler(), LogisticRegression())


tuned = TunedThresholdClassifierCV(classifier(), scoring=make_scorer(fbeta_score, beta=10), random_state=0)
tuned.fit(learnt, learnt_classes)
model = to_onnx(tuned, learnt[:1], options={"zipmap": False})
labels, scores = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"X": held})
wanted = tuned.predict(held)
print(f"  the threshold {tuned.best_threshold_:.3f}; malignant: {wanted.sum()} of {len(held)} by scikit-learn, {labels.sum()} by the converted model")
expect("the scores agree", True, bool(np.allclose(scores, tuned.predict_proba(held), atol=1e-4)))
expect("the threshold is below .2", True, bool(tuned.best_threshold_ < 0.2))
expect("the converted labels are those of one half", True, bool((labels == (scores[:, 1] > 0.5)).all()))
expect("labels differ on more than a tenth", True, bool((labels != wanted).mean() > 0.1))
expect("malignant cases found, the converted model finds fewer", True, bool(recall_score(held_classes, labels) < recall_score(held_classes, wanted)))
try:
    to_onnx(FixedThresholdClassifier(classifier(), threshold=0.1).fit(learnt, learnt_classes), learnt[:1])
except Exception as error:
    expect("FixedThresholdClassifier", "refused: MissingShapeCalculator", f"refused: {type(error).__name__}")
EOF
finish
