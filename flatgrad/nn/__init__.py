"""Neural networks on scalars."""

from .layers import MLP, Layer, Neuron
from .module import Module
from .optim import SGD, Adam, AdamW, Optimizer, RMSprop
from .schedules import Schedule, constant, cosine_decay, linear_decay, step_decay, warmup
from .step import TrainStep, train_step
from .train import History, NonFiniteLossError, Progress, fit

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
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
    "constant",
    "cosine_decay",
    "fit",
    "linear_decay",
    "step_decay",
    "train_step",
    "warmup",
]
