#!/usr/bin/env bash
# onnxmltools converts a LightGBM model and leaves out what its options mean.
#
# Guess:    the converter reads the trained model, so what the model was trained with is in it, or is refused, as it refuses the
#           objective cross_entropy.
# Truth:    random forests (`rf`) are summed instead of averaged: scores are off by 0.9, and more than half of the classes are
#           wrong. `zero_as_missing`, `linear_tree`, `sigmoid`, `multiclassova`, `reg_sqrt` are dropped without a word, and answers
#           differ by 0.15 and more. Plain gradient boosting and `dart` agree to six digits.
# Versions: onnxmltools 1.16.0, lightgbm 4.7.0, scikit-learn 1.9.1, onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    the conversion that was proved on last month's model is not proved on today's: one option of the training changes
#           what the same code exports. Compare with the source framework's outputs in each release.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here onnxmltools==1.16.0 lightgbm==4.7.0 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import warnings
import lightgbm, numpy as np, onnxruntime
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.model_selection import train_test_split
from finding import expect

warnings.simplefilter("ignore")
forest = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}
for name, data, options, agrees in (
    ("plain", load_breast_cancer, {}, True),
    ("dart", load_breast_cancer, {"boosting_type": "dart"}, True),
    ("rf", load_breast_cancer, forest, False),
    ("zero_as_missing", load_breast_cancer, {"zero_as_missing": True}, False),
    ("sigmoid", load_breast_cancer, {"sigmoid": 2.0}, False),
    ("multiclassova", load_wine, {"objective": "multiclassova"}, False),
    ("reg_sqrt", load_diabetes, {"reg_sqrt": True}, False),
    ("linear_tree", load_diabetes, {"linear_tree": True}, False),
):
    rows, target = data(return_X_y=True)
    rows = rows.astype(np.float32)
    rows[np.random.default_rng(0).random(rows.shape) < 0.2] = 0
    learnt, held, wanted, _ = train_test_split(rows, target, random_state=0)
    kind = lightgbm.LGBMRegressor if data is load_diabetes else lightgbm.LGBMClassifier
    trained = kind(n_estimators=20, n_jobs=1, verbose=-1, **options).fit(learnt.astype(float), wanted)
    inputs = [("X", FloatTensorType([None, rows.shape[1]]))]
    model = convert_lightgbm(trained, initial_types=inputs, zipmap=False, target_opset=15)
    answer = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"X": held})
    if kind is lightgbm.LGBMRegressor:
        expected = trained.predict(held)
        difference = float(abs(answer[0].ravel() - expected).max() / abs(expected).max())
    else:
        difference = float(abs(answer[1] - trained.predict_proba(held)).max())
    print(f"  {name}: largest difference {difference:.2g} (scores; of the largest value for a regression)")
    expect("agrees to four digits, or differs by more than 0.1", agrees, difference < 1e-4 if difference < 0.1 else False)
EOF
finish
