# /// script
# requires-python = ">=3.11"
# dependencies = ["flatgrad", "numpy"]
#
# [tool.uv.sources]
# flatgrad = { path = ".." }
# ///
"""A damped oscillation fitted to noisy measurements, with the uncertainty of each of its parameters.

    python examples/regression.py [--quick]

The model is physics instead of a network: `x(t) = A * exp(-t / tau) * cos(2 * pi * f * t + phi)`, four parameters with
units. Gradient and curvature come from the same scalar expression, so the fit and its uncertainties need no derivative
written by hand.
"""

import argparse
import math

import numpy as np

import flatgrad as fg

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="fewer measurements")
options = parser.parse_args()

NAMES = ["amplitude / mm", "decay time / s", "frequency / Hz", "phase / rad"]
TRUE = np.array([25.0, 3.0, 0.8, 0.4])
SIGMA = 1.0  # mm, the standard deviation of one measurement


def displacement(parameters, t):
    """The oscillator at time t; parameters and t are numbers or Values."""
    amplitude, decay_time, frequency, phase = parameters
    return amplitude * fg.exp(-fg.div(t, decay_time)) * fg.cos(2 * math.pi * frequency * t + phase)


def chi_squared(parameters, t, x):
    """The sum of squared residuals, in units of the measurement's uncertainty."""
    return sum(((displacement(parameters, ti) - xi) * (1 / SIGMA)) ** 2 for ti, xi in zip(t, x, strict=True))


random = np.random.default_rng(7)
t = np.linspace(0.0, 8.0, 40 if options.quick else 160)
x = np.array([displacement(TRUE.tolist(), ti) for ti in t.tolist()]) + random.normal(scale=SIGMA, size=len(t))

# Gradient of the sum, and from the gradient of single predictions the curvature: J^T J (Gauss and Newton).
value_and_gradient = fg.value_and_grad(chi_squared)
slopes = fg.grad(displacement)


def curvature(parameters):
    """Half the Hessian of chi-squared, without the second derivatives, whose residuals average out."""
    jacobian = np.array([slopes(parameters, ti) for ti in t.tolist()]) / SIGMA
    return jacobian.T @ jacobian


# Levenberg and Marquardt: Newton's step, damped more where it fails and less where it succeeds.
parameters, damping = np.array([20.0, 2.0, 0.75, 0.0]), 1e-2
value, gradient = value_and_gradient(parameters, t, x)
for k in range(30):
    matrix = curvature(parameters)
    step = np.linalg.solve(matrix + damping * np.diag(np.diag(matrix)), -0.5 * gradient)
    new_value, new_gradient = value_and_gradient(parameters + step, t, x)
    if new_value < value:
        gain = value - new_value
        parameters, value, gradient, damping = parameters + step, new_value, new_gradient, damping / 10
        print(f"step {k:2}  chi-squared {value:12.4f}")
        if gain < 1e-6:
            break
    else:
        damping *= 10

uncertainty = np.sqrt(np.diag(np.linalg.inv(curvature(parameters))))
print(f"\nchi-squared {value:.1f} for {len(t) - len(parameters)} degrees of freedom\n")
for name, estimate, sigma, true in zip(NAMES, parameters, uncertainty, TRUE, strict=True):
    print(f"{name:16} {estimate:8.4f} ± {sigma:.4f}   true {true:6.3f}   off by {(estimate - true) / sigma:+.1f} sigma")
