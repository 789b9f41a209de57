# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad", "numpy", "scikit-learn"]
#
# [tool.uv.sources]
# flatgrad = { path = ".." }
# ///
"""Handwritten digits, 8 x 8 pixels: a model of 2,410 parameters, trained with momentum and a falling learning rate.

    python examples/digits.py [--quick]

A step on 64 images is a program of more than 600,000 scalar operations. It is traced for a few images only: one kernel
serves batches of any size, the smaller last one and the held out images, too.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits  # a development dependency

import flatgrad as fg

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="images of 4 x 4 pixels, a smaller model, few images")
options = parser.parse_args()

start = time.perf_counter()
images, y = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8) / 16.0
if options.quick:
    images, y = images[:400], y[:400]
    images = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))  # each pixel the mean of four
X = images.reshape(len(images), -1) - images.mean()
count = len(X) * 4 // 5

hidden, batch, epochs = (12, 8, 10) if options.quick else (32, 64, 40)
model = fg.nn.MLP(X.shape[1], [hidden, 10], activation="relu", init="he", seed=0)
print(model.summary(), "\n")


def loss(X, y):
    """Cross-entropy, and a little weight decay."""
    return fg.nn.cross_entropy([model(x) for x in X], y) + 1e-4 * fg.nn.l2(model)


steps = epochs * -(-count // batch)
rate = fg.nn.warmup(fg.nn.cosine_decay(0.1, 0.001, steps), 20)
optimizer = fg.nn.SGD(rate, momentum=0.9, clip_norm=5.0)
history = fg.nn.fit(loss, model, optimizer, X[:count], y[:count], epochs=epochs, batch_size=batch, seed=0)
print(f"loss {history.epoch_loss[0]:.3f} -> {history.epoch_loss[-1]:.3f}")
print(f"{history.steps} steps in {history.seconds:.2f} s, {time.perf_counter() - start:.1f} s from start to end\n")

# All images that were held out at once, with the parameters as they are now.
logits = fg.vmap(model)(X[count:])
confusion = np.zeros((10, 10), dtype=int)
np.add.at(confusion, (y[count:], logits.argmax(axis=1)), 1)

print(f"held out: {confusion.trace()} of {confusion.sum()} right. Rows: the digit; columns: what the model saw")
print("    " + "".join(f"{k:4}" for k in range(10)))
for digit, row in enumerate(confusion):
    print(f"{digit:4}" + "".join(f"{n or '.':>4}" for n in row))
