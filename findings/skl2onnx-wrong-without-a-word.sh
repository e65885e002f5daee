#!/usr/bin/env bash
# Four options of scikit-learn that skl2onnx takes, converts, and gets wrong.
#
# Guess:    what skl2onnx cannot convert it refuses with an error, as it does for many estimators; what it converts agrees with
#           scikit-learn, up to rounding.
# Truth:    on rows held out of iris: SGDClassifier(loss="modified_huber") gets the right scores and the wrong labels (accuracy .97
#           becomes .63, since clipped scores tie); isotonic calibration loses its interpolation (scores off by 0.1);
#           neighbours weighted by distance are weighted otherwise (off by more than 0.1); SimpleImputer(add_indicator=True) loses
#           its indicator columns. The option next to each (log_loss, sigmoid, uniform) agrees to six digits.
# Versions: skl2onnx 1.20.0, scikit-learn 1.9.1, onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    the file loads, the service is healthy, and the fleet answers worse than the desk measured. Only outputs of the
#           source framework on real samples, compared row by row, find it: labels and scores, each.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnxruntime
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from skl2onnx import to_onnx
from finding import expect

rows, classes = load_iris(return_X_y=True)
rows = StandardScaler().fit_transform(rows).astype(np.float32)
learnt, held, learnt_classes, held_classes = train_test_split(rows, classes, random_state=0)


def converted(estimator, some, options=None):
    model = to_onnx(estimator, learnt[:1], options=options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": some})


for name, estimator, same_labels, same_scores in (
    ("SGDClassifier, log_loss", SGDClassifier(loss="log_loss", random_state=0), True, True),
    ("SGDClassifier, modified_huber", SGDClassifier(loss="modified_huber", random_state=0), False, True),
    ("calibration, sigmoid", CalibratedClassifierCV(GaussianNB()), True, True),
    ("calibration, isotonic", CalibratedClassifierCV(GaussianNB(), method="isotonic"), True, False),
    ("neighbours, uniform", KNeighborsClassifier(), True, True),
    ("neighbours, by distance", KNeighborsClassifier(weights="distance"), True, False),
):
    estimator.fit(learnt, learnt_classes)
    labels, scores = converted(estimator, held, {"zipmap": False})
    print(f"  {name}: accuracy {estimator.score(held, held_classes):.2f}, converted {(labels == held_classes).mean():.2f}")
    expect("the same labels", same_labels, bool((labels == estimator.predict(held)).all()))
    expect("the same scores", same_scores, bool(np.allclose(scores, estimator.predict_proba(held), atol=1e-4)))

gaps = learnt.copy()
gaps[::5] = np.nan
imputer = SimpleImputer(add_indicator=True).fit(gaps)
expect("SimpleImputer with indicators: columns", 8, imputer.transform(gaps).shape[1])
expect("SimpleImputer with indicators, converted: columns", 4, converted(imputer, gaps)[0].shape[1])
EOF
finish
