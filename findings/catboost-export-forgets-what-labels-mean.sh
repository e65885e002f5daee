#!/usr/bin/env bash
# CatBoost's own ONNX export answers with other classes, other probabilities and other numbers than CatBoost.
#
# Guess:    `save_model(format="onnx")` is the framework's own, so what it writes is the model; what ONNX cannot hold is refused, as are
#           categorical features, trees that are not symmetric, and classes that are fractions.
# Truth:    two classes of any whole numbers become 0 and 1: with the classes 1 and 2, each answer is wrong. The threshold of
#           `set_probability_threshold` is dropped. MultiClassOneVsAll is given a softmax instead of sigmoids. Poisson and Tweedie answer the
#           logarithm. MultiRMSE writes a file that no runtime loads. Three classes of any numbers, texts, Logloss with 0 and 1, RMSE
#           and NaN agree.
# Versions: catboost 1.2.10, scikit-learn 1.9.1 (data), onnxruntime 1.32.0, numpy 2.4.6.
# Fleet:    a count of 150 is answered as 5.0, "class 2" as "class 1", without an error, and a metric that was computed from class
#           probabilities does not see half of it. Compare predict() itself, label by label, with the exported file's answers.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here catboost==1.2.10 scikit-learn==1.9.1 onnxruntime==1.32.0 numpy==2.4.6
python_finding here <<'EOF'
import numpy as np, onnxruntime
from catboost import CatBoostClassifier, CatBoostRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.model_selection import train_test_split
from finding import expect

OPTIONS = {"iterations": 30, "verbose": 0, "allow_writing_files": False, "random_seed": 0, "thread_count": 1}


def exported(model, rows):
    """The outputs of the exported model; probabilities as an array."""
    model.save_model("model.onnx", format="onnx")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"features": rows.astype(np.float32)})
    return outputs[0], np.array([list(row.values()) for row in outputs[1]]) if len(outputs) > 1 else None


def classes(name, data, meaning, same_labels, same_scores, threshold=None, **options):
    learnt, held, learnt_classes, _ = train_test_split(*data, random_state=0)
    model = CatBoostClassifier(**OPTIONS, **options).fit(learnt, np.array(meaning)[learnt_classes])
    if threshold:
        model.set_probability_threshold(threshold)
    labels, scores = exported(model, held)
    wanted = model.predict(held).ravel()
    print(f"  {name}: {(labels.astype(str) != wanted.astype(str)).mean():.0%} of labels differ, scores by {np.abs(scores - model.predict_proba(held)).max():.2f}")
    expect("the same labels", same_labels, bool((labels.astype(str) == wanted.astype(str)).all()))
    expect("the same scores", same_scores, bool(np.allclose(scores, model.predict_proba(held), atol=1e-4)))


two, three = load_breast_cancer(return_X_y=True), load_iris(return_X_y=True)
classes("classes 0 and 1", two, [0, 1], True, True)
classes("classes 1 and 2", two, [1, 2], False, True)
classes("classes in words", two, ["bad", "good"], True, True)
classes("classes 10, 5 and 7", three, [10, 5, 7], True, True)
classes("a threshold of .95", two, [0, 1], False, True, threshold=0.95)
classes("one against all", three, [0, 1, 2], True, False, loss_function="MultiClassOneVsAll")

learnt, held, learnt_values, held_values = train_test_split(*load_diabetes(return_X_y=True), random_state=0)
for loss, same in (("RMSE", True), ("Quantile:alpha=0.9", True), ("Poisson", False), ("Tweedie:variance_power=1.5", False)):
    model = CatBoostRegressor(loss_function=loss, **OPTIONS).fit(learnt, learnt_values)
    answers, wanted = exported(model, held)[0].ravel(), model.predict(held)
    print(f"  {loss}: {wanted[0]:.1f}, exported {answers[0]:.1f}")
    expect("the same numbers", same, bool(np.allclose(answers, wanted, rtol=1e-3)))
    if not same:
        raw = model.predict(held, prediction_type="RawFormulaVal")
        expect("the numbers are those before the exponential", True, bool(np.allclose(answers, raw, rtol=1e-3)))
model = CatBoostRegressor(loss_function="MultiRMSE", **OPTIONS).fit(learnt, np.column_stack([learnt_values, 2 * learnt_values]))
try:
    exported(model, held)
    loaded = "yes"
except Exception as error:
    loaded = "no: targets must be positive, got 0" if "must be positive, got 0" in str(error) else str(error)
expect("two targets: the exported file loads", "no: targets must be positive, got 0", loaded)
EOF
finish
