"""How to train: what can be chosen, and the optimisers by their names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .. import nn
from ..nn.layers import activations
from ..runtime.errors import OptionError

#: By default, half of all epochs without a better validation loss end the training, but not fewer than these. Fewer
#: would end it while the learning rate is still high: the loss falls again once the rate has fallen.
PATIENCE = 20
TASKS = ("auto", "classify", "regress")

#: By name on the command line: the default learning rate, and a function that makes the optimiser. AdamW's weight decay
#: is large (PyTorch's is 0.01) because tables are small: it prevented overfitting of iris, breast-cancer and diabetes.
OPTIMIZERS: dict[str, tuple[float, Callable[[nn.Schedule], nn.Optimizer]]] = {
    "adam": (0.01, nn.Adam),
    "adamw": (0.01, lambda rate: nn.AdamW(rate, weight_decay=0.5)),
    "sgd": (0.05, lambda rate: nn.SGD(rate, momentum=0.9)),
    "rmsprop": (0.003, nn.RMSprop),
}


#: The weight decays that a cross-validation chooses from, where the optimiser is AdamW.
DECAYS = (0.02, 0.1, 0.5, 2.0)


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        target: the column to predict.
        task: "classify", "regress", or "auto": what the target column makes likely.
        hidden: the sizes of the hidden layers; none: a linear model.
        activation: of the hidden layers.
        epochs: how often each training row is used; by default 50, or more where that would be fewer than 500 steps.
        batch_size: rows per step; by default 16, or fewer for a model so wide that compiling would take long.
        optimizer: "adamw" (with the weight decay that folds choose, or else 0.5), "adam", "sgd" (with momentum 0.9) or
            "rmsprop".
        lr: the learning rate at the start, from which it falls along half a cosine to a hundredth; by default 0.01 for
            Adam and AdamW, 0.05 for SGD, 0.003 for RMSprop.
        seed: of the split, the initialisation and the shuffling.
        folds: of a cross-validation, which says how many epochs to train on all rows, and with AdamW with how much
            weight decay; 0 or 1: none, but rows set aside for validation. By default 10 for up to 2,000 rows, if
            `validation` is not given and machine code can make so many runs in seconds.
        validation: the fraction of rows that is set aside for validation where there are no folds; 0: none. By default
            0.2.
        patience: how many epochs without a better validation loss (the mean over the folds) end the training; 0: none
            do. By default half of all epochs, but at least 20. The best epoch is kept in any case.
        ignore: columns to leave out.
        categorical: columns to take as categories though they hold numbers, or many different texts.
    """

    target: str
    task: str = "auto"
    hidden: tuple[int, ...] = (16, 16)
    activation: str = "tanh"
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str = "adamw"
    lr: float | None = None
    seed: int = 0
    folds: int | None = None
    validation: float | None = None
    patience: int | None = None
    ignore: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise `OptionError` for a setting that makes no sense, called as on the command line."""
        options = (("task", TASKS), ("optimizer", tuple(OPTIMIZERS)), ("activation", activations()))
        for name, choices in options:
            if getattr(self, name) not in choices:
                raise OptionError(f"--{name}: {getattr(self, name)!r} is none of {', '.join(choices)}")
        for name, number in (("epochs", self.epochs), ("batch-size", self.batch_size)):
            if number is not None and number < 1:
                raise OptionError(f"--{name} must be at least 1, got {number}")
        if self.patience is not None and self.patience < 0:
            raise OptionError(f"--patience must not be negative, got {self.patience}; 0 means never to stop early")
        if any(size < 1 for size in self.hidden):
            raise OptionError(f"--hidden: sizes must be at least 1, got {','.join(map(str, self.hidden))}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise OptionError(f"--lr must be a positive number, got {self.lr:g}")
        if self.validation is not None and not 0 <= self.validation < 1:
            raise OptionError(f"--validation must be at least 0 and less than 1, got {self.validation:g}")
        if self.folds is not None and self.folds < 0:
            raise OptionError(f"--folds must not be negative, got {self.folds}; 0 means no cross-validation")
        if (self.folds or 0) > 1 and self.validation:
            raise OptionError("give either --folds or --validation: the folds are what is validated on")

    @property
    def rate(self) -> float:
        """The learning rate at the start."""
        return self.lr or OPTIMIZERS[self.optimizer][0]

    def patience_of(self, epochs: int) -> int:
        """How many of so many epochs may bring no better validation loss; 0: all of them.

        >>> Settings("y").patience_of(50), Settings("y").patience_of(10), Settings("y", patience=7).patience_of(50)
        (25, 20, 7)
        """
        return max(PATIENCE, epochs // 2) if self.patience is None else self.patience

    def optimizers(self, steps: int, folds: int) -> list[tuple[float | None, nn.Optimizer]]:
        """The optimisers for so many steps, with their weight decays: those to choose from, if there are folds."""
        schedule = nn.cosine_decay(self.rate, self.rate / 100, steps)
        if folds and self.optimizer == "adamw":
            return [(decay, nn.AdamW(schedule, weight_decay=decay)) for decay in DECAYS]
        return [(None, OPTIMIZERS[self.optimizer][1](schedule))]
