# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad"]
#
# [tool.uv.sources]
# flatgrad = { path = ".." }
# ///
"""Programs that branch, loop until they are done and look things up, written plainly, with their gradients.

    python examples/branches.py

Each function is ordinary Python. Beside its gradient stands what mathematics says, or a difference quotient.
"""

import bisect
import math

import flatgrad as fg


def square_root(x):
    """Newton's method, until nothing changes any more."""
    root = x
    while abs(root * root - x) > 1e-14 * x:
        root = 0.5 * (root + x / root)
    return root


def fixed_point(a):
    """The x for which `cos(a * x) == x`, by bisection; a last step of Newton's method brings the gradient."""
    low, high = 0.0 * a, 0.0 * a + 1.0
    for _ in range(40):
        middle = fg.detach(0.5 * (low + high))
        if fg.cos(a * middle) > middle:
            low = middle
        else:
            high = middle
    return low - (fg.cos(a * low) - low) / (-a * fg.sin(a * low) - 1.0)


def decay(rate, tolerance=1e-8):
    """`y' = -rate * y` from 1.0 over one unit of time, by steps of Heun's method whose size the error decides."""
    time, step, y = 0.0, 0.1, 1.0 + 0.0 * rate
    while time < 1.0:
        slope = -rate * y
        euler = y + step * slope
        heun = y + 0.5 * step * (slope - rate * euler)
        if abs(heun - euler) > tolerance**0.5:
            step = 0.5 * step
            continue
        time, y = time + step, heun
        step = min(2.0 * step if abs(heun - euler) < 0.25 * tolerance**0.5 else step, 1.0 - time)
    return y


def tax(income):
    """A rate of 20 % above 10,000 and of 40 % above 50,000."""
    if income <= 10_000.0:
        return 0.0 * income
    if income <= 50_000.0:
        return 0.2 * (income - 10_000.0)
    return 8_000.0 + 0.4 * (income - 50_000.0)


POINTS = [([0.0, 0.0], "red"), ([1.0, 0.5], "red"), ([3.0, 3.0], "blue"), ([4.0, 2.5], "blue"), ([2.0, 0.0], "red")]


def vote(x, y, k):
    """How clear the vote of the k nearest points is: the mean distance of the others, less that of the winners."""
    nearest = sorted((fg.hypot(x - p, y - q), colour) for (p, q), colour in POINTS)[:k]
    colours = [colour for _, colour in nearest]
    winner = max(sorted(set(colours)), key=colours.count)
    distances = {True: [], False: []}
    for (p, q), colour in POINTS:
        distances[colour == winner].append(fg.hypot(x - p, y - q))
    return sum(distances[False]) / len(distances[False]) - sum(distances[True]) / len(distances[True])


KNOTS, HEIGHTS = [0.0, 1.0, 2.5, 4.0], [0.0, 2.0, 1.0, 3.0]
SLOPES = [2.0, 0.5, 0.25, 1.0]


def spline(x):
    """A cubic through the heights at the knots, with these slopes there: Hermite's, the piece found by `bisect`."""
    k = min(max(bisect.bisect_right(KNOTS, x) - 1, 0), len(KNOTS) - 2)
    width = KNOTS[k + 1] - KNOTS[k]
    t = (x - KNOTS[k]) / width
    left = (1.0 + 2.0 * t) * (1.0 - t) ** 2 * HEIGHTS[k] + t * (1.0 - t) ** 2 * width * SLOPES[k]
    return left + t * t * (3.0 - 2.0 * t) * HEIGHTS[k + 1] + t * t * (t - 1.0) * width * SLOPES[k + 1]


def quotient(f, x, *others, step=1e-6):
    """A difference quotient."""
    return (f(x + step, *others) - f(x - step, *others)) / (2.0 * step)


def show(name, x, f, expected, *others):
    value, gradient = f(x, *others)
    print(f"{name:<14} at {x:<9} is {value:<12.8g} slope {gradient:<12.8g} expected {expected:.8g}")


if __name__ == "__main__":
    f = fg.value_and_grad(square_root)
    for x in (2.0, 9.0, 1e6):
        show("square root", x, f, 0.5 / math.sqrt(x))

    f = fg.value_and_grad(fixed_point)
    for a in (0.5, 1.0, 2.0):
        x = f(a)[0]
        show("fixed point", a, f, -x * math.sin(a * x) / (1.0 + a * math.sin(a * x)))

    f = fg.value_and_grad(decay)
    for rate in (0.5, 1.0, 2.0):
        show("decay", rate, f, -math.exp(-rate))

    f = fg.value_and_grad(tax)
    for income, rate in ((8_000.0, 0.0), (30_000.0, 0.2), (70_000.0, 0.4)):
        show("tax", income, f, rate)

    f = fg.value_and_grad(vote)
    for x, k in ((1.0, 1), (2.25, 3), (3.5, 3)):
        show(f"vote of {k}", x, f, quotient(fg.jit(vote), x, 1.5, k), 1.5, k)

    f = fg.value_and_grad(spline)
    for x in (0.5, 2.0, 3.0):
        show("spline", x, f, quotient(fg.jit(spline), x))
    print(f"the spline went {len(f.ways())} ways:", *(" ".join(map(str, way.truths)) for way in f.ways()), sep="\n  ")
