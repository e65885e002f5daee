#!/usr/bin/env bash
# Treelite loads LightGBM and XGBoost models without two things that their own predictions mind: zeros as gaps, and the best round.
#
# Guess:    Treelite reads the models of both libraries with each detail, missing values above all, and refuses what it cannot; it does
#           refuse LightGBM's linear trees.
# Truth:    a LightGBM model of `zero_as_missing=True` sends zeros through its trees as numbers: probabilities are off by more than a tenth.
#           An XGBoost classifier that was stopped early predicts by its best round, and Treelite by all rounds, the
#           worse ones behind it too. NaN as a gap, and a model that was not stopped, agree to five digits.
# Versions: treelite 4.8.1, lightgbm 4.7.0, xgboost 3.2.0, scikit-learn 1.9.1.
# Fleet:    Treelite is the way of boosted trees onto devices without Python (tl2cgen compiles what it loads). The device answers with
#           another model than the one that was validated, and the difference is small enough to pass a look. Cut the booster
#           (`booster[: best_iteration + 1]`), write gaps as NaN, and compare outputs in each release.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here treelite==4.8.1 lightgbm==4.7.0 xgboost==3.2.0 scikit-learn==1.9.1 numpy==2.4.6
python_finding here <<'EOF'
import lightgbm, numpy as np, xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from treelite import frontend, gtil
from finding import expect

rows, classes = load_breast_cancer(return_X_y=True)
gone = np.random.default_rng(0).random(rows.shape) < 0.2


def difference(found, scores):
    return float(abs(found.reshape(len(scores), -1)[:, -1] - scores[:, -1]).max())


for name, gap, options, agrees in (
    ("LightGBM, gaps are NaN", np.nan, {}, True),
    ("LightGBM, zeros are numbers", 0, {}, True),
    ("LightGBM, zeros are gaps", 0, {"zero_as_missing": True}, False),
):
    data = np.where(gone, gap, rows)
    trained = lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1, **options).fit(data, classes)
    off = difference(gtil.predict(frontend.from_lightgbm(trained.booster_), data), trained.predict_proba(data))
    print(f"  {name}: largest difference {off:.2g}")
    expect("agrees to five digits", agrees, off < 1e-5)
    expect("differs by more than 0.1", not agrees, off > 0.1)

rows = rows.astype(np.float32)
learnt, held, wanted, held_wanted = train_test_split(rows, classes, random_state=0)
for name, options, agrees in (("XGBoost", {}, True), ("XGBoost, stopped early", {"early_stopping_rounds": 20}, False)):
    trained = xgboost.XGBClassifier(n_estimators=200, learning_rate=0.5, n_jobs=1, **options)
    trained.fit(learnt, wanted, eval_set=[(held, held_wanted)], verbose=False)
    booster = trained.get_booster()
    off = difference(gtil.predict(frontend.from_xgboost(booster), held), trained.predict_proba(held))
    print(f"  {name}: {booster.num_boosted_rounds()} rounds, largest difference {off:.2g}")
    expect("agrees to five digits", agrees, off < 1e-5)
    expect("differs by more than 0.01", not agrees, off > 0.01)
    if options:
        cut = frontend.from_xgboost(booster[: trained.best_iteration + 1])
        expect("cut behind the best round it agrees", True, difference(gtil.predict(cut, held), trained.predict_proba(held)) < 1e-5)
EOF
finish
