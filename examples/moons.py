# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad[plot]", "numpy"]
#
# [tool.uv.sources]
# flatgrad = { path = ".." }
# ///
"""Two moons with Adam in small batches, early stopping, and a picture of the decision boundary.

python examples/moons.py [--quick] [--plot moons.png]
"""

import argparse

import numpy as np

import flatgrad as fg
from flatgrad.nn.data import make_moons

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few epochs")
parser.add_argument("--plot", metavar="FILE.png", help="draw the decision boundary (needs Matplotlib)")
options = parser.parse_args()

X, y = make_moons(300, noise=0.15, random_state=np.random.RandomState(0))
model = fg.nn.MLP(2, [16, 16, 1], activation="relu", init="he", seed=0)


def loss(X, y):
    """The cross-entropy of a batch. The model's output is a logit: above 0 it speaks for the second moon."""
    return fg.nn.binary_cross_entropy([model(x) for x in X], y)


history = fg.nn.fit(
    loss,
    model,
    fg.nn.Adam(0.01),
    X[:240],
    y[:240],
    epochs=10 if options.quick else 60,
    batch_size=20,
    validation_data=(X[240:], y[240:]),
    patience=15,  # the parameters of the best epoch are put back in the end
    seed=0,
)

# Inference, too, is compiled: one program for one point.
classify = fg.jit(model)
right = sum((classify(x) > 0) == label for x, label in zip(X[240:], y[240:], strict=True))
print(f"{history.epochs} epochs of {history.steps_per_epoch} steps in {history.seconds:.2f} s")
print(f"validation: loss {min(history.validation_loss):.4f}, {right} of 60 points right")

if options.plot:
    ax = fg.nn.plot_decision_boundary(model, X, y)
    ax.set_title("two moons")
    ax.figure.savefig(options.plot, dpi=150)
    print(f"picture: {options.plot}")
