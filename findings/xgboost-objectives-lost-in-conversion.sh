#!/usr/bin/env bash
# onnxmltools converts XGBoost models of several objectives or targets, and leaves out the last step of their answers.
#
# Guess:    the converter reads the objective that the trained model holds: it applies it for count:poisson, reg:gamma and
#           multi:softprob, and refuses gblinear, dart and missing=0. What it converts answers as XGBoost does.
# Truth:    reg:logistic has no logistic function any more (1.16 for .59, and negative shares); survival:cox has a logarithm added to 1 in
#           the place of the hazard (4.0 for 20.5); multi:softmax gives margins as probabilities. Of two targets, or two quantiles, the
#           first column is the sum of both and the second one zero. Nothing is said. Labels agree, and so do the objectives next to these.
# Versions: onnxmltools 1.16.0, xgboost 3.2.0, scikit-learn 1.9.1, onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    a share that is predicted (a fill level, a wear between 0 and 1) or a pair of quantiles is the usual model of a plant. The same
#           export code was proved on a squared error. Compare values, not labels or ranks, which agree here, in each release.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxmltools==1.16.0 xgboost==3.2.0 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import warnings
import numpy as np, onnxruntime, xgboost
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_diabetes, load_wine
from finding import expect

warnings.simplefilter("ignore")
onnxruntime.set_default_logger_severity(4)


def converted(trained, rows):
    model = convert_xgboost(trained, initial_types=[("X", FloatTensorType([None, rows.shape[1]]))], target_opset=15)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"X": rows})


def same(one, other):
    return bool(one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5))


rows, target = (part.astype(np.float32) for part in load_diabetes(return_X_y=True))
share = (target - target.min()) / (target.max() - target.min())
for objective, wanted, agrees in (
    ("reg:squarederror", target, True),
    ("count:poisson", np.round(target), True),
    ("reg:gamma", target, True),
    ("reg:tweedie", target, True),
    ("reg:logistic", share, False),
    ("survival:cox", target, False),
):
    trained = xgboost.XGBRegressor(n_estimators=20, max_depth=4, objective=objective, n_jobs=1).fit(rows, wanted)
    expected, found = trained.predict(rows), converted(trained, rows)[0].ravel()
    print(f"  {objective}: XGBoost {expected[:3].round(2)}, converted {found[:3].round(2)}")
    expect(f"{objective} answers as XGBoost", agrees, same(found, expected))

two = {
    "two targets": xgboost.XGBRegressor(n_estimators=20, n_jobs=1).fit(rows, np.stack([target, 500 - target], 1)),
    "two quantiles": xgboost.XGBRegressor(
        n_estimators=20, n_jobs=1, objective="reg:quantileerror", quantile_alpha=np.array([0.1, 0.9])
    ).fit(rows, target),
}
for name, trained in two.items():
    expected, found = trained.predict(rows), converted(trained, rows)[0]
    print(f"  {name}: XGBoost {expected[0].round(2)}, converted {found[0].round(2)}")
    expect(f"{name} answer as XGBoost", False, same(found, expected))
    expect(f"{name}: the second column is zero", True, bool((found[:, 1] == 0).all()))

rows, classes = load_wine(return_X_y=True)
rows = rows.astype(np.float32)
for objective, agrees in (("multi:softprob", True), ("multi:softmax", False)):
    trained = xgboost.XGBClassifier(n_estimators=20, objective=objective, n_jobs=1).fit(rows, classes)
    labels, scores = converted(trained, rows)
    expect(f"{objective}: the same labels", True, bool((labels == trained.predict(rows)).all()))
    expect(f"{objective}: the same probabilities", agrees, same(scores, trained.predict_proba(rows)))
    expect(f"{objective}: they add up to 1", agrees, bool(np.allclose(scores.sum(1), 1, atol=1e-4)))
EOF
finish
