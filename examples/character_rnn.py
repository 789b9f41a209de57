# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad[plot]", "numpy"]
#
# [tool.uv.sources]
# flatgrad = { path = ".." }
# ///
"""A recurrent network that learns to write, character by character.

    python examples/character_rnn.py [--quick] [--plot loss.png]

The network is one function, `after`: a state and a character become the next state. A loop calls it for each character,
and the loss of the characters to come is trained by `nn.fit`. No matrix is in sight: rounds, matrix-vector products and
the rows of a batch are found in the scalar program.
"""

import argparse
import time

import numpy as np

import flatgrad as fg
from flatgrad import nn

TEXT = """
the rain ran down the window pane, the train ran through the rain again.
the plain was grey, the lane was grey, the rain would stay another day.
a crane stood waiting in the grain, and waited for the rain in vain.
the rain had stopped, the crane had flown, the train went down the lane alone.
"""

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a smaller network, few epochs")
parser.add_argument("--plot", metavar="FILE.png", help="draw the loss (needs Matplotlib)")
options = parser.parse_args()

letters = sorted(set(TEXT))
numbers = [letters.index(letter) for letter in TEXT]
bits = np.array([[(k >> b & 1) * 2.0 - 1.0 for b in range(5)] for k in range(len(letters))])  # what the network reads
width, rounds, epochs = (8, 9, 3) if options.quick else (16, 12, 120)


class Writer(nn.Module):
    """A network of Elman: `state = tanh(inner @ state + outer @ character)`, and a logit for each letter."""

    def __init__(self, width, seed):
        self.recurrent = nn.Layer(width + 5, width, activation="tanh", init="xavier", seed=seed)
        self.output = nn.Layer(width, len(letters), activation="linear", init="xavier", seed=seed + 1)

    def after(self, state, character):
        """The state behind a character, given as bits."""
        return self.recurrent([*state, *character])

    def __call__(self, sequence):
        """The logits of what follows each character of a sequence."""
        state, logits = [0.0] * width, []
        for character in sequence:
            state = self.after(state, character)
            logits.append(self.output(state))
        return logits


model = Writer(width, seed=0)
starts = range(0, len(numbers) - rounds, 2)
X = np.array([bits[numbers[k : k + rounds]] for k in starts])
y = np.array([numbers[k + 1 : k + rounds + 1] for k in starts], float)


def loss(X, y):
    """The mean cross-entropy of all characters, in nats."""
    return fg.sum([nn.cross_entropy(model(x), t) for x, t in zip(X, y, strict=True)]) * (1.0 / len(X))


begin = time.perf_counter()
history = nn.fit(
    loss, model, nn.Adam(nn.cosine_decay(0.01, 0.001, epochs * -(-len(X) // 16)), clip_norm=5.0), X, y, epochs=epochs,
    batch_size=16, seed=0,
)  # fmt: skip
seconds = time.perf_counter() - begin
print(f"{len(X)} sequences of {rounds} characters, {len(model.parameters()):,} parameters")
print(f"prepared in {seconds - history.seconds:.1f} s; {history.steps} steps in {history.seconds:.2f} s")
print(f"loss per character {history.epoch_loss[0]:.3f} -> {history.epoch_loss[-1]:.3f}\n")


# Writing: one round, compiled. Each character is drawn with the probabilities of the network, and read in the next.
@fg.jit
def one_round(state, character):
    """The next state, and how likely each letter is to follow."""
    state = model.after(state, character)
    return state, fg.softmax(model.output(state))


random, state, written = np.random.default_rng(0), np.zeros(width), "\n"
for _ in range(160):
    state, likely = one_round(state, bits[letters.index(written[-1])])
    likely = np.array(likely) ** 2  # a little bolder than it has learnt
    written += letters[random.choice(len(letters), p=likely / likely.sum())]
print(written.strip())

if options.plot:
    axes = history.plot()
    axes.set(title="a recurrent network that learns to write", ylabel="nats per character")
    axes.figure.savefig(options.plot, dpi=150)
    print(f"\npicture: {options.plot}")
