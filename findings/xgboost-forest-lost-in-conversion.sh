#!/usr/bin/env bash
# onnxmltools converts an XGBoost classifier with several trees in a round, and gives trees to the wrong classes.
#
# Guess:    the converter reads which class each tree of the trained model is for; boosted trees and forests are the same to it.
# Truth:    it takes turns: tree 0 is for class 0, tree 1 for class 1. With `num_parallel_tree` above 1, and so in each
#           XGBRFClassifier, several trees in a row are for one class. Probabilities are off by more than a half, without a word.
#           One tree in a round, and forests for a regression, agree to six digits.
# Versions: onnxmltools 1.16.0, xgboost 3.2.0, scikit-learn 1.9.1, onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    one option of the training ruins what the same export code made right before. Compare the converted model's outputs
#           with the source framework's in each release.

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
for name, kind, data, options, agrees in (
    ("one tree in a round", xgboost.XGBClassifier, load_wine, {}, True),
    ("three trees in a round", xgboost.XGBClassifier, load_wine, {"num_parallel_tree": 3, "subsample": 0.7}, False),
    ("a forest", xgboost.XGBRFClassifier, load_wine, {}, False),
    ("a forest for a regression", xgboost.XGBRFRegressor, load_diabetes, {}, True),
):
    rows, target = data(return_X_y=True)
    rows = rows.astype(np.float32)
    trained = kind(n_estimators=20, max_depth=4, random_state=0, n_jobs=1, **options).fit(rows, target)
    model = convert_xgboost(trained, initial_types=[("X", FloatTensorType([None, rows.shape[1]]))], target_opset=15)
    answer = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"X": rows})
    if data is load_wine:
        difference = float(abs(answer[1] - trained.predict_proba(rows)).max())
    else:
        expected = trained.predict(rows)
        difference = float(abs(answer[0].ravel() - expected).max() / abs(expected).max())
    print(f"  {name}: largest difference {difference:.2g}")
    expect("the converted model answers as the trained one", agrees, difference < 1e-4)
EOF
finish
