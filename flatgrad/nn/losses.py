"""Losses: from predictions and targets to one `Value`.

Every loss takes one prediction and its target, or lists of them (lists, tuples or arrays, nested once where an example
has several outputs), and returns one `Value`. Predictions and targets are numbers or `Value`s, also of a function that
is being traced. A loss over several examples is their mean: terms are added from left to right and the sum is
multiplied by `1.0 / n`, as in micrograd's notebook.

A target may also be an argument of a compiled function: the bits are the same. A number that is no target (a class that
does not exist) raises an error; an argument cannot, because its number is not there when the function is traced.

Where PyTorch has the loss, its definition is followed, with `reduction="mean"`; the definitions are on
https://pytorch.org/docs/stable/nn.functional.html#loss-functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..runtime import reductions
from ..runtime.errors import FlatgradError, InputError, OptionError
from ..runtime.primitives import detach, equal, exp, log, number, softplus, where
from ..runtime.table import folded
from ..runtime.value import Value, as_value


def mse(predictions: Any, targets: Any) -> Value:
    """The mean squared error, `mean((p - t)**2)` over all elements (PyTorch's `mse_loss`).

    Args:
        predictions: one number or `Value`, a list of n of them, or n lists of k.
        targets: numbers or `Value`s, arranged like the predictions.

    Raises:
        InputError: where predictions and targets are arranged differently, are empty, or are not numbers.

    Example:
        >>> mse([1.0, 4.0], [1.0, 2.0]).data
        2.0
    """
    return _mean([_square(p - t) for p, t in _pairs("mse", predictions, targets)])


def mae(predictions: Any, targets: Any) -> Value:
    """The mean absolute error, `mean(|p - t|)` over all elements (PyTorch's `l1_loss`); its gradient at 0 is 0.

    Arguments, result and errors are those of `mse`.

    Example:
        >>> mae([1.0, 4.0], [1.0, 2.0]).data
        1.0
    """
    return _mean([abs(p - t) for p, t in _pairs("mae", predictions, targets)])


def huber(predictions: Any, targets: Any, delta: float = 1.0) -> Value:
    """The Huber loss: quadratic for errors up to `delta`, linear beyond, so that outliers pull less.

    With `d = p - t`: the mean over all elements of `d**2 / 2` where `|d| <= delta`, else `delta * (|d| - delta / 2)`
    (Huber, "Robust Estimation of a Location Parameter", 1964; PyTorch's `huber_loss`).

    Args:
        predictions, targets: as for `mse`.
        delta: the error at which the loss becomes linear, a positive number.

    Raises:
        OptionError: for a `delta` that is not positive and finite.
        InputError: as for `mse`.

    Example:
        >>> huber([1.0, 5.0], [1.5, 2.0], delta=2.0).data
        2.0625
    """
    delta = float(number(delta))
    if not 0.0 < delta < math.inf:
        raise OptionError(f"huber: delta must be a positive number, got {delta}")
    losses = []
    for p, t in _pairs("huber", predictions, targets):
        error = p - t
        size = abs(error)
        losses.append(where(size <= delta, 0.5 * _square(error), delta * (size - 0.5 * delta)))
    return _mean(losses)


def hinge(scores: Any, labels: Any) -> Value:
    """The max-margin loss, `mean(relu(1 - label * score))`, as in micrograd's notebook.

    It is Cortes and Vapnik's soft margin ("Support-Vector Networks", 1995). The score's sign says the class.

    Args:
        scores: one number or `Value`, or a list of n of them.
        labels: -1 or +1 for each.

    Raises:
        InputError: for labels other than -1 and +1; where scores and labels differ in number, or there are none.

    Example:
        >>> hinge([0.5, -3.0], [1, -1]).data
        0.25
    """
    losses = []
    for score, label in _pairs("hinge", scores, labels, "scores", "labels"):
        if not isinstance(label, Value) and label not in (-1.0, 1.0):
            raise InputError(f"hinge: labels are -1 or +1, got {label}; convert classes 0 and 1 by 2*y - 1")
        losses.append((1 + -label * score).relu())
    return _mean(losses)


def binary_cross_entropy(logits: Any, targets: Any) -> Value:
    """The cross-entropy of two classes, from logits: `mean(log(1 + exp(z)) - y * z)`.

    It is the mean of `-(y * log(sigmoid(z)) + (1 - y) * log(1 - sigmoid(z)))` (PyTorch's
    `binary_cross_entropy_with_logits`), computed as `softplus(z) - y * z` or, where `y` is at least a half, as its
    equal `softplus(-z) + (1 - y) * z`. Nothing overflows, and the loss of a confident right answer is not lost in the
    difference of two large numbers.

    Args:
        logits: one number or `Value`, or a list of n of them: the model's linear output, before any sigmoid.
        targets: for each the class 0 or 1, or a probability in between.

    Raises:
        InputError: for targets outside [0, 1]; where logits and targets differ in number, or there are none.

    Example:
        >>> binary_cross_entropy([0.0, 1000.0], [1, 1]).data
        0.34657359027997264
    """
    losses = []
    for z, y in _pairs("binary_cross_entropy", logits, targets, "logits"):
        if isinstance(y, Value):
            likely = y >= 0.5
            losses.append(softplus(where(likely, -1.0, 1.0) * z) + where(likely, 1.0 - y, -y) * z)
            continue
        if not 0.0 <= y <= 1.0:
            raise InputError(
                f"binary_cross_entropy: targets lie between 0 and 1, got {y}; convert labels -1 and +1 by (y+1)/2"
            )
        losses.append(softplus(-z) + (1.0 - y) * z if y >= 0.5 else softplus(z) + -y * z)
    return _mean(losses)


def cross_entropy(logits: Any, targets: Any) -> Value:
    """The cross-entropy of several classes, from logits: the mean of `log(sum(exp(z))) - z[target]`.

    It is the negative logarithm of the softmax at the target (PyTorch's `cross_entropy`). The largest logit is
    subtracted first, so that nothing overflows; no gradient flows through it, because the loss does not depend on what
    is subtracted.

    Args:
        logits: for one example a list of k numbers or `Value`s, the model's linear output; or a list of n such lists.
        targets: for each example the index of its class, from 0 to k - 1, or k probabilities (one-hot, for instance).
            An index may be a `Value`, such as an argument of a traced function; one that names no class makes the loss
            NaN.

    Raises:
        InputError: for an index that is no class, probabilities outside [0, 1] or not k in number; where logits and
            targets differ in number, or there are none.

    Example:
        >>> cross_entropy([1.0, 1.0], 0).data
        0.6931471805599453
        >>> cross_entropy([[1000.0, 0.0], [0.0, 1000.0]], [0, 0]).data
        500.0
    """
    rows, classes = _plain(logits), _plain(targets)
    if not isinstance(rows, list):
        raise InputError("cross_entropy: logits are a list with one number per class, or a list of such lists")
    if not rows or not isinstance(_plain(rows[0]), list):
        return _cross_entropy(rows, classes, "")
    if not isinstance(classes, list) or len(classes) != len(rows):
        count = f"{len(classes)} targets" if isinstance(classes, list) else "one target"
        raise InputError(f"cross_entropy: {len(rows)} examples, but {count}; give one target per example")
    width = len(_plain(rows[0]))
    losses = []
    for k, (row, target) in enumerate(zip(rows, classes, strict=True)):
        row = _plain(row)
        if not isinstance(row, list) or len(row) != width:
            length = len(row) if isinstance(row, list) else 1
            raise InputError(f"cross_entropy: example 0 has {width} logits, but example {k} has {length}")
        losses.append(_cross_entropy(row, _plain(target), f" of example {k}"))
    return _mean(losses)


def l1(parameters: Any) -> Value:
    """The sum of absolute values, `sum(|p|)`: a penalty that drives parameters to 0 (the lasso of Tibshirani, 1996).

    There is no factor: `loss + 1e-4 * nn.l1(model)`.

    Args:
        parameters: a Module, or a list of numbers or `Value`s.

    Raises:
        InputError: if there are none.

    Example:
        >>> l1([1.0, -2.0]).data
        3.0
    """
    return _total([abs(p) for p in _parameters("l1", parameters)])


def l2(parameters: Any) -> Value:
    """The sum of squares, `sum(p * p)`: the penalty of micrograd's notebook, `loss + 1e-4 * nn.l2(model)`.

    There is no factor 1/2, so the gradient is `2 * p`: `c * l2` does what weight decay of `2 * c` does in plain SGD.
    Argument and errors are those of `l1`.

    Example:
        >>> l2([1.0, -2.0]).data
        5.0
    """
    return _total([_square(p) for p in _parameters("l2", parameters)])


# --- one example --------------------------------------------------------------------------------------------------


def _cross_entropy(row: list[Any], target: Any, which: str) -> Value:
    logits = [_value("cross_entropy", "logits", z) for z in row]
    if not logits:
        raise InputError("cross_entropy: there are no logits")
    # The checks of the target come first: they need no arithmetic.
    weights = None if isinstance(target, Value) else _class_weights(target, len(logits), which)
    largest = detach(reductions.max(logits))
    shifted = [z - largest for z in logits]
    log_sum = log(_total([exp(z) for z in shifted]))
    if weights is None or isinstance(weights, int):
        loss: Value = log_sum - (_selected(shifted, target) if weights is None else shifted[weights])
        return loss
    return _total([weight * (log_sum - z) for weight, z in zip(weights, shifted, strict=True)])


def _selected(items: Sequence[Value], index: Value) -> Value:
    """`items[index]` for an index that is only known when the program runs; NaN where there is no such item."""
    here = [equal(index, float(k)) for k in range(len(items))]
    exists = here[0]
    for condition in here[1:]:
        exists = exists | condition
    return where(exists, 0.0, math.nan) + folded(here, items)  # type: ignore[no-any-return]


def _class_weights(target: Any, classes: int, which: str) -> int | list[Any]:
    """The class that a target names, or the probability of each class."""
    if not isinstance(target, list):
        index = _number("cross_entropy", "targets", target)
        if not (0 <= index < classes and index == int(index)):
            named = int(index) if math.isfinite(index) and index == int(index) else index
            raise InputError(f"cross_entropy: target{which} is {named}, expected a class from 0 to {classes - 1}")
        return int(index)
    if len(target) != classes:
        raise InputError(
            f"cross_entropy: target{which} has {len(target)} probabilities, but there are {classes} logits"
        )
    weights = [_operand("cross_entropy", "targets", weight) for weight in target]
    for weight in weights:
        if not isinstance(weight, Value) and not 0.0 <= weight <= 1.0:
            raise InputError(f"cross_entropy: target{which} has a probability outside [0, 1]: {weight}")
    return weights


def _square(x: Any) -> Any:
    return x * x


# --- arguments and sums -------------------------------------------------------------------------------------------


def _mean(losses: Sequence[Value]) -> Value:
    return _total(losses) * (1.0 / len(losses)) if len(losses) > 1 else losses[0]


def _total(terms: Sequence[Value]) -> Value:
    return sum(terms)  # type: ignore[return-value]  # there is at least one term


def _pairs(
    loss: str, predictions: Any, targets: Any, first: str = "predictions", second: str = "targets"
) -> list[tuple[Value, Any]]:
    """The predictions, as `Value`s, each with its target, a float or a `Value`; nested lists are flattened."""
    left, right = _plain(predictions), _plain(targets)
    if isinstance(left, list) != isinstance(right, list):
        single, several = (second, first) if isinstance(left, list) else (first, second)
        raise InputError(f"{loss}: {several} are a list, but {single} are not; give both the same shape")
    if not isinstance(left, list):
        return [(_value(loss, first, left), _operand(loss, second, right))]
    if len(left) != len(right):
        raise InputError(f"{loss}: {len(left)} {first}, but {len(right)} {second}; there must be one for each")
    pairs: list[tuple[Value, Any]] = []
    for k, (p, t) in enumerate(zip(map(_plain, left), map(_plain, right), strict=True)):
        if isinstance(p, list) != isinstance(t, list) or (isinstance(p, list) and len(p) != len(t)):
            shapes = " and ".join(f"a list of {len(i)}" if isinstance(i, list) else "one number" for i in (p, t))
            raise InputError(f"{loss}: {first} and {second} of example {k} are {shapes}; give both the same shape")
        rows = zip(p, t, strict=True) if isinstance(p, list) else [(p, t)]
        pairs += [(_value(loss, first, a), _operand(loss, second, b)) for a, b in rows]
    if not pairs:
        raise InputError(f"{loss}: there are no {first}")
    return pairs


def _parameters(loss: str, parameters: Any) -> list[Value]:
    items = parameters.parameters() if callable(getattr(parameters, "parameters", None)) else parameters
    if isinstance(items, (Value, float, int)):
        items = [items]
    if isinstance(items, (str, bytes, dict)) or not isinstance(items, Iterable):
        raise InputError(f"{loss}: expected a Module or a list of Values, got {type(parameters).__name__}")
    values = [_value(loss, "parameters", item) for item in items]
    if not values:
        raise InputError(f"{loss}: there are no parameters")
    return values


def _plain(item: Any) -> Any:
    """Tuples and arrays as lists; anything else as it is."""
    if item.__class__ is list or isinstance(item, Value):
        return item
    if isinstance(item, tuple):
        return list(item)
    return item.tolist() if hasattr(item, "tolist") else item


def _value(loss: str, what: str, item: Any) -> Value:
    """A prediction as a `Value`, so that the arithmetic of a loss is that of `Value`s in any case."""
    return _converted(as_value, loss, what, item)  # type: ignore[no-any-return]


def _operand(loss: str, what: str, item: Any) -> Any:
    return item if isinstance(item, Value) else _number(loss, what, item)


def _number(loss: str, what: str, item: Any) -> float:
    return float(_converted(number, loss, what, item))


def _converted(convert: Callable[[Any], Any], loss: str, what: str, item: Any) -> Any:
    try:
        return convert(item)
    except FlatgradError as error:
        raise InputError(f"{loss}: {what}: {error}") from None
