# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad", "scikit-learn"]
#
# [tool.uv.sources]
# flatgrad = { path = ".." }
# ///
"""Fisher's iris data: three classes by cross-entropy, 50 epochs in batches of 16.

python examples/iris.py [--quick] [--seed N]
"""

import argparse
import time

from sklearn.datasets import load_iris  # a development dependency

start = time.perf_counter()  # scikit-learn takes longer to import than the rest of this takes to run

import flatgrad as fg  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="10 epochs instead of 50")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

X, y = load_iris(return_X_y=True)
held_out = slice(0, None, 5)  # the file is sorted by class: every fifth flower gives ten of each
training = [k for k in range(len(X)) if k % 5]
mean, scale = X[training].mean(axis=0), X[training].std(axis=0)
X = (X - mean) / scale

model = fg.nn.MLP(4, [16, 3], activation="tanh", init="xavier", seed=options.seed)


def loss(X, y):
    """The mean cross-entropy of a batch; y holds the numbers of the classes."""
    return fg.nn.cross_entropy([model(x) for x in X], y)


history = fg.nn.fit(
    loss,
    model,
    fg.nn.Adam(0.02),
    X[training],
    y[training],
    epochs=10 if options.quick else 50,
    batch_size=16,
    seed=options.seed,
)
seconds = time.perf_counter() - start


scores = fg.jit(model)  # from numbers to numbers, with the parameters as they are


def predict(x):
    """The class with the largest logit."""
    logits = scores(x)
    return logits.index(max(logits))


right = sum(predict(x) == label for x, label in zip(X[held_out], y[held_out], strict=True))
print(f"loss {history.epoch_loss[0]:.4f} -> {history.epoch_loss[-1]:.4f} in {history.epochs} epochs")
print(f"held out: {right} of {len(y[held_out])} flowers right")
print(f"{history.steps} steps in {history.seconds:.2f} s; {seconds:.2f} s from importing flatgrad to trained")
