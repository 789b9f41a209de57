# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad"]
#
# [tool.uv.sources]
# flatgrad = { path = ".." }
# ///
"""The four examples of the micrograd lecture, classified: forward, backward and update as one generated function.

python examples/lecture.py [--quick]
"""

import argparse
from pathlib import Path

import flatgrad as fg

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a fifth of the steps")
parser.add_argument("--save", type=Path, metavar="FILE.py", help="write the generated step to a file")
options = parser.parse_args()

xs = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
ys = [1.0, -1.0, -1.0, 1.0]

# As in the lecture every neuron ends in a tanh, the last one too.
model = fg.nn.MLP(3, [4, 4, 1], activation="tanh", output="tanh", seed=1)


def loss(xs, ys):
    """The lecture's loss: the sum of squared errors, in plain arithmetic on Values."""
    return sum((model(x) - y) ** 2 for x, y in zip(xs, ys, strict=True))


# The first call traces the loss, differentiates it, adds the update of 41 parameters, and prints all of it as one
# Python function; this and every later call runs that function.
step = fg.nn.train_step(loss, fg.nn.SGD(0.05), model)
for k in range(20 if options.quick else 100):
    value = step(xs, ys)
    if k % 10 == 0:
        print(f"step {k:3}  loss {value:.6f}")

# The parameters live in the step while it is in use; this writes them into the model's Values.
step.sync()
for x, y in zip(xs, ys, strict=True):
    print(f"{x!s:18} wanted {y:+.0f}, predicted {model(x).data:+.3f}")

print(f"\nthe generated step has {step.source.count(chr(10)):,} lines", end="")
if options.save:
    options.save.write_text(step.source, encoding="utf-8")
    print(f": {options.save}")
else:
    print("; --save step.py writes it to a file")
