# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad[plot]", "numpy"]
#
# [tool.uv.sources]
# flatgrad = { path = "../.." }
# ///
"""microGPT: a language model on scalars learns names, and writes new ones.

    python examples/microgpt/train.py [NAMES.txt] [--steps 1000] [--quick] [--plot loss.png]

NAMES.txt has a name per line. Each step learns one name: loss, gradient and Adam's update of 4,192 parameters are one
program, made once, for names of every length. The bits are those of the scalar graph.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np
from model import GPT, Letters, as_rows, read_names, writer, written

from flatgrad import nn

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("names", nargs="?", default=Path(__file__).parent / "names.txt", help="a file, a name per line")
parser.add_argument("--steps", type=int, default=1000, metavar="N", help="names to learn from (1000)")
parser.add_argument("--samples", type=int, default=20, metavar="N", help="names to write (20)")
parser.add_argument("--temperature", type=float, default=0.5, metavar="T", help="below 1: fewer surprises (0.5)")
parser.add_argument("--seed", type=int, default=42, metavar="N", help="of all that is drawn at random (42)")
parser.add_argument("--quick", action="store_true", help="few steps")
parser.add_argument("--plot", metavar="FILE.png", help="draw the loss (needs Matplotlib)")
options = parser.parse_args()
steps = 20 if options.quick else options.steps

random.seed(options.seed)
names = read_names(options.names)
random.shuffle(names)
letters = Letters(names)
model = GPT(len(letters))
tokens, counts = as_rows([letters.tokens(name) for name in names[:steps]])


def loss(rows, counts):
    """The loss of the one name of a batch."""
    return model.loss(rows[0], counts[0])


adam = nn.Adam(lambda step: 0.01 * (1 - step / steps), betas=(0.85, 0.99), eps=1e-8)
print(f"{len(names):,} names, {len(letters)} tokens, {len(model.parameters()):,} parameters")
begin = time.perf_counter()
history = nn.fit(loss, model, adam, tokens, counts, steps=steps, batch_size=1, shuffle=False, seed=0)
seconds = time.perf_counter() - begin
print(f"prepared in {seconds - history.seconds:.1f} s; {history.steps} steps in {history.seconds:.2f} s")
print("first losses:", *history.loss[:5])
window = min(50, -(-steps // 2))
first, last = np.mean(history.loss[:window]), np.mean(history.loss[-window:])
print(f"loss {first:.3f} -> {last:.3f} nats per letter, means of {window} steps\n")


begin = time.perf_counter()
one_position = writer(model)
new = [written(model, letters, one_position, options.temperature) for _ in range(options.samples)]
for k, name in enumerate(new):
    print(f"{k + 1:3} {name}")
print(f"\nwritten in {time.perf_counter() - begin:.1f} s")

if options.plot:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    axes.plot(range(1, steps + 1), history.loss, color="tab:blue", linewidth=0.8, alpha=0.4, label="of one name")
    means = np.convolve(history.loss, np.full(window, 1 / window), mode="valid")
    axes.plot(range(window, steps + 1), means, color="tab:blue", label=f"mean of the last {window}")
    axes.axhline(np.log(len(letters)), color="grey", linestyle=":", label="all letters equally likely")
    axes.set(xlabel="step", ylabel="loss, nats per letter", title="microGPT learns names")
    axes.legend()
    figure.savefig(options.plot, dpi=150)
    print(f"picture: {options.plot}")
