# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad[plot]", "numpy", "scipy"]
#
# [tool.uv.sources]
# flatgrad = { path = ".." }
# ///
"""Lynx and hare: the parameters of a differential equation, fitted to noisy counts by gradients.

    python examples/lotka_volterra.py [--quick] [--plot populations.png]

The model is that of Lotka and Volterra: hares multiply by themselves, lynxes by eating hares. Its solution has no
formula, so a loop over steps of Runge and Kutta is a part of the loss, and `value_and_grad` differentiates the loop. In
machine code, the steps are a loop, too, forwards and backwards.
"""

import argparse
import time

import numpy as np
from scipy.optimize import minimize  # a development dependency, through scikit-learn

import flatgrad as fg

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="fewer years")
parser.add_argument("--plot", metavar="FILE.png", help="draw counts and fit (needs Matplotlib)")
options = parser.parse_args()

NAMES = ["hares born / year", "hares eaten / lynx / year", "lynxes born / hare / year", "lynxes dying / year",
         "hares at first / 1000", "lynxes at first / 1000"]  # fmt: skip
TRUE = np.array([0.55, 0.028, 0.026, 0.80, 33.0, 6.0])
YEARS, STEPS = 10 if options.quick else 30, 20  # so many steps of Runge and Kutta in a year
NOISE = 0.1  # the standard deviation of the logarithm of a count


def rates(p, hares, lynxes):
    """What is added to the populations in a year, if they stay as they are."""
    return p[0] * hares - p[1] * hares * lynxes, p[2] * hares * lynxes - p[3] * lynxes


def populations(p, every=STEPS):
    """Hares and lynxes at the beginning, and after every so many steps; parameters are numbers or Values."""
    h = 1 / STEPS
    x, y = p[4], p[5]
    path = [(x, y)]
    for k in range(1, YEARS * STEPS + 1):
        x1, y1 = rates(p, x, y)
        x2, y2 = rates(p, x + h / 2 * x1, y + h / 2 * y1)
        x3, y3 = rates(p, x + h / 2 * x2, y + h / 2 * y2)
        x4, y4 = rates(p, x + h * x3, y + h * y3)
        x = x + h / 6 * (x1 + 2 * x2 + 2 * x3 + x4)
        y = y + h / 6 * (y1 + 2 * y2 + 2 * y3 + y4)
        if k % every == 0:
            path.append((x, y))
    return path


def misfit(logarithms, counts):
    """Half the sum of squared residuals of logarithms; parameters, too, are logarithms, so that they stay positive."""
    total = 0.0
    for (x, y), (hares, lynxes) in zip(populations([fg.exp(q) for q in logarithms]), counts, strict=True):
        total = total + (fg.log(x) - fg.log(hares)) ** 2 + (fg.log(y) - fg.log(lynxes)) ** 2
    return total / (2 * NOISE**2)


random = np.random.default_rng(4)
counts = np.array(populations(TRUE.tolist())) * np.exp(random.normal(scale=NOISE, size=(YEARS + 1, 2)))

# Where a search steps too far, a population leaves the range of doubles: then the misfit is inf or NaN, as in NumPy.
value_and_gradient = fg.value_and_grad(misfit, faults="ieee")
start = np.log(TRUE * random.uniform(0.7, 1.4, size=6))
begin = time.perf_counter()
value_and_gradient(start, counts)
prepared = time.perf_counter()
fit = minimize(value_and_gradient, start, args=(counts,), jac=True, method="BFGS", options={"gtol": 1e-4})
searched = time.perf_counter()

equations = value_and_gradient.kernel_for(start, counts).stats.equations
print(f"{equations:,} equations compiled in {prepared - begin:.2f} s")
print(f"{fit.nfev} gradients in {1e3 * (searched - prepared):.1f} ms, with SciPy's search\n")
print(f"chi-squared {2 * fit.fun:.1f} for {counts.size - len(TRUE)} degrees of freedom\n")
estimates = np.exp(fit.x)
errors = estimates * np.sqrt(np.diag(fit.hess_inv))  # from the curvature that the search has learnt
for name, estimate, error, true in zip(NAMES, estimates, errors, TRUE, strict=True):
    print(f"{name:26} {estimate:8.4f} ± {error:.4f}   true {true:7.3f}   off by {(estimate - true) / error:+.1f} sigma")

if options.plot:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    years = np.arange(YEARS * STEPS + 1) / STEPS
    curves = [np.array(populations(p.tolist(), every=1)) for p in (estimates, np.exp(start))]
    for k, (name, colour) in enumerate((("hares", "tab:blue"), ("lynxes", "tab:red"))):
        axes.plot(counts[:, k], "o", color=colour, label=f"{name}, counted")
        axes.plot(years, curves[0][:, k], color=colour, label=f"{name}, fitted")
        axes.plot(years, curves[1][:, k], ":", color=colour, label=f"{name}, first guess")
    axes.set(xlabel="year", ylabel="thousands", title="The equations of Lotka and Volterra, fitted by gradients")
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(options.plot, dpi=150)
    print(f"\npicture: {options.plot}")
