#!/usr/bin/env bash
# A forest that emlearn converts answers by whole numbers, unless it is told otherwise.
#
# Guess:    a converter for scikit-learn's forests keeps their thresholds, as far as the microcontroller's numbers allow, and says
#           where it cannot.
# Truth:    features and thresholds are int16 by default, and fractions are cut off: 2.5 becomes 2. Pixels from 0 to 16 cost four points
#           of accuracy; the same pixels from 0 to 1 leave a model that guesses, .10 in place of .95. Nothing is said. With
#           `dtype="float"` the accuracy is the source's, and a value that equals a threshold goes the other way than scikit-learn's.
# Versions: emlearn 0.23.2, scikit-learn 1.9.1.
# Fleet:    firmware is the dearest thing to send twice. Ask the converted code the whole holdout, on the desk, and compare each answer
#           with the source's, not its accuracy alone.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here emlearn==0.23.2 scikit-learn==1.9.1 numpy==2.4.6
python_finding here <<'END'
import emlearn
import numpy as np
from finding import expect
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

pixels, digits = load_digits(return_X_y=True)
train, held_out, labels, right = train_test_split(pixels, digits, test_size=360, random_state=0)


def told(answers):
    share = float((answers == right).mean())
    return "above .93" if share > 0.93 else "from .87 to .93" if share > 0.87 else "below .2" if share < 0.2 else f"{share:.3f}"


for largest, default in ((16, "from .87 to .93"), (1, "below .2")):
    scale = largest / 16
    forest = RandomForestClassifier(15, random_state=0).fit(train * scale, labels)
    expect(f"pixels from 0 to {largest}, the source's accuracy", "above .93", told(forest.predict(held_out * scale)))
    expect("  by emlearn", default, told(emlearn.convert(forest).predict(held_out * scale)))
    expect('  by emlearn with dtype="float"', "above .93", told(emlearn.convert(forest, dtype="float").predict(held_out * scale)))

# One tree, which asks whether the only feature is at most 3.
tree = RandomForestClassifier(1, bootstrap=False, random_state=0).fit(np.array([[2.0], [4.0]]), [0, 1])
expect("at the threshold, the source", 0, int(tree.predict([[3.0]])[0]))
expect("  by emlearn", 1, int(emlearn.convert(tree, dtype="float").predict([[3.0]])[0]))
END
finish
