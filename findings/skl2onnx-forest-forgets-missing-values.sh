#!/usr/bin/env bash
# skl2onnx converts a forest that knows missing values, and the ONNX model sends them the wrong way.
#
# Guess:    a random forest that was trained on data with gaps, and so learnt for each split where a gap goes, keeps that when it
#           is converted, or the converter refuses it.
# Truth:    the learnt direction is left out. The converted forest answers rows without gaps exactly, and rows with gaps by
#           sending each gap to one side: several percent of the classes differ, and single scores differ by half.
# Versions: skl2onnx 1.20.0, scikit-learn 1.9.1, onnxruntime 1.32.0, onnx 1.23.2.
# Fleet:    gaps are what sensors at the edge deliver. A conversion that was checked on complete rows is wrong in the field,
#           with the scores of a sound model. Put rows with gaps among the golden samples.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnxruntime
from sklearn.datasets import load_wine
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier
from skl2onnx import to_onnx
from finding import expect

rows, classes = load_wine(return_X_y=True)
rows = rows.astype(np.float32)
gaps = rows.copy()
gaps[np.random.default_rng(0).random(rows.shape) < 0.2] = np.nan
for kind in (RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier):
    forest = kind(random_state=0).fit(gaps, classes)
    model = to_onnx(forest, gaps[:1], options={"zipmap": False})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    difference = {}
    for name, some in (("complete", rows), ("with gaps", gaps)):
        difference[name] = float(np.abs(session.run(None, {"X": some})[1] - forest.predict_proba(some)).max())
    label = session.run(None, {"X": gaps})[0]
    share = float((label != forest.predict(gaps)).mean())
    print(f"  {kind.__name__}: largest difference of a score {difference}, classes that differ {share:.1%}")
    expect("exact for complete rows", True, difference["complete"] < 1e-5)
    expect("wrong by more than 0.3 for rows with gaps", True, difference["with gaps"] > 0.3)
EOF
finish
