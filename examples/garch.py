# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad[plot]", "numpy", "scipy"]
#
# [tool.uv.sources]
# flatgrad = { path = ".." }
# ///
"""The volatility of returns: GARCH(1,1) by maximum likelihood, with standard errors.

    python examples/garch.py [--quick] [--plot volatility.png]

The variance of a day follows from that of the day before and from its return: `variance = omega + alpha * r**2 + beta *
variance`. The likelihood of all days is one loop, its gradient the same loop backwards. The curvature at the maximum,
which gives the standard errors, is a gradient of the gradient.
"""

import argparse
import math
import time

import numpy as np
from scipy.optimize import minimize  # a development dependency, through scikit-learn

import flatgrad as fg

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="fewer days")
parser.add_argument("--plot", metavar="FILE.png", help="draw returns and volatility (needs Matplotlib)")
options = parser.parse_args()

NAMES = ["omega / %^2", "alpha", "beta"]
TRUE = np.array([0.04, 0.08, 0.88])
DAYS = 300 if options.quick else 2_000


def variances(p, returns):
    """The variance of each day's return, given the days before; the first is that of the long run."""
    omega, alpha, beta = p
    variance = fg.div(omega, 1 - alpha - beta)
    path = []
    for r in returns:
        path.append(variance)
        variance = omega + alpha * (r * r) + beta * variance
    return path


def minus_log_likelihood(p, returns):
    """Of normal returns, in nats."""
    path = variances(p, returns)
    return 0.5 * sum(math.log(2 * math.pi) + fg.log(v) + fg.div(r * r, v) for v, r in zip(path, returns, strict=True))


def simulated(days, random):
    """Returns in percent."""
    omega, alpha, beta = TRUE
    variance, returns = omega / (1 - alpha - beta), []
    for shock in random.normal(size=days):
        returns.append(shock * math.sqrt(variance))
        variance = omega + alpha * returns[-1] ** 2 + beta * variance
    return np.array(returns)


returns = simulated(DAYS, np.random.default_rng(2))
value_and_gradient = fg.value_and_grad(minus_log_likelihood)
start = np.array([0.1 * returns.var(), 0.1, 0.8])
begin = time.perf_counter()
value_and_gradient(start, returns)
prepared = time.perf_counter()
fit = minimize(
    value_and_gradient, start, args=(returns,), jac=True, method="SLSQP", bounds=[(1e-6, None), (0, 1), (0, 1)],
    constraints={"type": "ineq", "fun": lambda p: 0.999 - p[1] - p[2], "jac": lambda p: np.array([0.0, -1.0, -1.0])},
    options={"ftol": 1e-10},
)  # fmt: skip
searched = time.perf_counter()

gradient = fg.grad(minus_log_likelihood)
slope = fg.grad(lambda p, d, returns: fg.sum([g * x for g, x in zip(gradient(p, returns), d, strict=True)]))
hessian = np.array([slope(fit.x, direction, returns) for direction in np.eye(3)])
curved = time.perf_counter()
errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
print(f"{DAYS:,} returns: compiled in {prepared - begin:.2f} s")
print(f"{fit.nfev} likelihoods in {1e3 * (searched - prepared):.1f} ms; curvature {curved - searched:.2f} s\n")
print(f"log-likelihood {-fit.fun:.2f}, with the true parameters {-value_and_gradient(TRUE, returns)[0]:.2f}\n")
for name, estimate, error, true in zip(NAMES, fit.x, errors, TRUE, strict=True):
    print(f"{name:12} {estimate:7.4f} ± {error:.4f}   true {true:.2f}   off by {(estimate - true) / error:+.1f} sigma")

if options.plot:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    axes.plot(returns, ".", color="lightgrey", markersize=3, label="returns")
    for sign in (1, -1):
        axes.plot(sign * np.sqrt(variances(fit.x.tolist(), returns.tolist())), color="tab:blue", linewidth=1,
                  label="volatility, fitted" if sign > 0 else None)  # fmt: skip
    axes.plot(np.sqrt(variances(TRUE.tolist(), returns.tolist())), ":", color="tab:red", linewidth=1,
              label="volatility, true")  # fmt: skip
    axes.set(xlabel="day", ylabel="%", title="GARCH(1,1) by maximum likelihood")
    axes.legend(loc="upper right")
    figure.savefig(options.plot, dpi=150)
    print(f"\npicture: {options.plot}")
