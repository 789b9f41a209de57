"""Neural networks on scalars."""

from .history import History, Progress
from .layers import MLP, Layer, Neuron
from .losses import binary_cross_entropy, cross_entropy, hinge, huber, l1, l2, mae, mse
from .module import Module
from .optim import SGD, Adam, AdamW, Optimizer, RMSprop
from .plots import plot_decision_boundary, plot_history
from .run import NonFiniteLossError
from .schedules import Schedule, constant, cosine_decay, linear_decay, step_decay, warmup
from .step import TrainStep, train_step
from .storage import FileFormatError
from .train import fit

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "FileFormatError",
    "History",
    "Layer",
    "Module",
    "Neuron",
    "NonFiniteLossError",
    "Optimizer",
    "Progress",
    "RMSprop",
    "Schedule",
    "TrainStep",
    "binary_cross_entropy",
    "constant",
    "cosine_decay",
    "cross_entropy",
    "fit",
    "hinge",
    "huber",
    "l1",
    "l2",
    "linear_decay",
    "mae",
    "mse",
    "plot_decision_boundary",
    "plot_history",
    "step_decay",
    "train_step",
    "warmup",
]


def __dir__() -> list[str]:
    """What completion offers: the public names, and not the modules that they come from."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
