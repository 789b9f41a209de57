"""Random interleavings of what can happen around compiled functions: `python -m tests.interleavings COUNT [SEED]`.

An interleaving is a dozen events in a random order: calls of compiled functions and training steps, changes of what
they capture, interrupts in the middle of a call, exceptions in functions and callbacks, calls from two threads at once.
Everything that is returned is compared with the interpreter, bit for bit, and so is what comes after an exception.
"""

from __future__ import annotations

import gc
import math
import os
import random
import sys
import threading
import types
import warnings
from collections import Counter
from typing import Any

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.compiler.machine import native
from flatgrad.runtime import tracing

PACKAGE = os.path.dirname(fg.__file__) + os.sep
BACKENDS = ["python", "python", "numpy", *(["native"] if native.available() else [])]
EVENTS = 12


class Layer(nn.Module):
    """Something with a mode, a list of parameters and a number."""

    def __init__(self, draw: random.Random) -> None:
        self.weights = [Value(draw.uniform(-1.0, 1.0)) for _ in range(2)]
        self.training, self.scale = True, 1.5

    def __call__(self, x: Any) -> Any:
        out = sum((w * a for w, a in zip(self.weights, x, strict=True)), Value(0.0))
        return out.tanh() * self.scale if self.training else out


class CallbackError(Exception):
    """What functions and callbacks of the users raise here."""


class World:
    """Functions with what they capture.

    Args:
        seed: of everything that is drawn.
    """

    def __init__(self, seed: int) -> None:
        self.draw = draw = random.Random(seed)
        self.layer, self.offsets, self.settings = Layer(draw), [0.5, -0.25], {"power": 2, "rate": 0.5}
        self.module = types.ModuleType("user_module")
        self.module.shift = 0.125  # type: ignore[attr-defined]
        self.failing = False
        self.trained = [Value(0.5), Value(-0.5)]
        self.log: list[str] = []
        self.counts: Counter[str] = Counter()
        rate = 0.75

        def set_rate(number: float) -> None:
            nonlocal rate
            rate = number

        def f(x: Any) -> Any:
            if self.failing:
                raise CallbackError
            inner = self.layer(x) ** self.settings["power"] * rate + self.module.shift  # type: ignore[attr-defined]
            return inner + sum((o * a for o, a in zip(self.offsets, x, strict=True)), Value(0.0)) + fg.log(x[0])

        def loss(x: Any, y: Any) -> Any:
            a, b = self.trained
            return (a * x[0] + b * x[1] * rate - y) ** 2 + f(x) * 0.25

        self.set_rate, self.f, self.loss = set_rate, f, loss
        backend = draw.choice(BACKENDS)
        self.functions = {
            "value_and_grad": fg.value_and_grad(f, backend=backend),
            "grad": fg.grad(f, backend=backend),
            "wrt": fg.value_and_grad(f, wrt=self.layer, backend=backend),
            "compile": fg.compile(f, backend=backend),
            "jit": fg.jit(f, backend=backend),
        }
        self.step = nn.train_step(loss, nn.SGD(0.125), self.trained, backend=backend)
        self.numbers = [p.data for p in self.trained]
        self.backend = backend

    # --- what the interpreter gives ---------------------------------------------------------------------------------

    def expected(self, name: str, x: list[float]) -> list[float] | type[BaseException]:
        values, parameters = [Value(a) for a in x], self.layer.parameters()
        self.layer.zero_grad()
        try:
            out = self.f(values)
            out.backward()
        except (CallbackError, ValueError, ArithmeticError) as error:
            return _kind(error)
        if name == "jit":
            return [out.data]
        gradient = [p.grad for p in parameters] if name == "wrt" else [v.grad for v in values]
        return gradient if name == "grad" else [out.data, *gradient]

    def got(self, name: str, x: list[float]) -> list[float] | type[BaseException]:
        function = self.functions[name]
        try:
            if name == "compile":
                values = [Value(a) for a in x]
                out = function(values)
                out.backward()
                return [out.data, *(v.grad for v in values)]
            result = function(x)
            if name == "jit":
                return [result]
        except (CallbackError, ValueError, ArithmeticError) as error:
            return _kind(error)
        return list(result) if name == "grad" else [result[0], *result[1]]

    def expected_step(self, x: list[float], y: float) -> tuple[Any, list[float]]:
        """The loss of a step and the parameters after it, by the interpreter."""
        data = [p.data for p in self.trained]
        try:
            for parameter, number in zip(self.trained, self.numbers, strict=True):
                parameter.data, parameter.grad = number, 0.0
            out = self.loss(list(map(Value, x)), Value(y))
            out.backward()
            return out.data, [p.data - 0.125 * p.grad for p in self.trained]
        except (CallbackError, ValueError, ArithmeticError) as error:
            return _kind(error), self.numbers
        finally:
            for parameter, number in zip(self.trained, data, strict=True):
                parameter.data = number

    # --- events -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """A dozen events; afterwards everything once more."""
        events = [self.call, self.call, self.make_step, self.change, self.change, self.interrupt, self.fail, self.fit]
        events += [self.two_threads, self.interrupt_step]
        for _ in range(EVENTS):
            event = self.draw.choice(events)
            self.counts[event.__name__] += 1
            self.log.append(event.__name__)
            event()
            self.check_state()
        self.failing = False
        for name in self.functions:
            self.compare(name, [0.5, 2.0])
        self.make_step()

    def arguments(self) -> list[float]:
        first = self.draw.choice([0.5, 1.0, 2.0, 3.0, 0.25, -1.0, 0.0])  # the last two: no logarithm
        return [first, self.draw.choice([-1.0, 0.5, 2.0])]

    def compare(self, name: str, x: list[float]) -> None:
        self.log.append(f"{name}({x})")
        assert _bits(self.got(name, x)) == _bits(self.expected(name, x)), (self.backend, self.log)

    def call(self) -> None:
        self.compare(self.draw.choice(list(self.functions)), self.arguments())

    def change(self) -> None:
        draw, layer = self.draw, self.layer
        number = draw.choice([0.25, 0.5, 1.0, -0.0, 0.0, 2.0])
        change = draw.randrange(11)
        self.log.append(f"change {change} {number}")
        if change == 0:
            self.set_rate(number)
        elif change == 1:
            layer.training = not layer.training
        elif change == 2:
            layer.scale = number
        elif change == 3:
            layer.weights[draw.randrange(2)] = Value(number)
        elif change == 4:
            layer.weights = [Value(number), layer.weights[0]]
        elif change == 5:
            self.offsets[draw.randrange(2)] = number
        elif change == 6:
            self.offsets = [number, 0.5]
        elif change == 7:
            self.settings["power"] = draw.choice([2, 3])
        elif change == 8:
            self.module.shift = number  # type: ignore[attr-defined]
        elif change == 9:
            layer.weights[0].data = number
        else:
            self.layer = Layer(draw)
            self.functions["wrt"] = fg.value_and_grad(self.f, wrt=self.layer, backend=self.backend)

    def fail(self) -> None:
        """The user's own exception, wherever the function runs; a kernel that is there does not run it."""
        self.failing = True
        name, x = self.draw.choice(list(self.functions)), self.arguments()
        assert self.got(name, x) is CallbackError, (self.backend, self.log)
        if self.draw.random() < 0.5:
            self.step_once(x, 1.0)
        self.failing = False
        self.compare(name, x)

    def step_once(self, x: list[float], y: float) -> None:
        loss, numbers = self.expected_step(x, y)
        before = self.step.steps
        try:
            outcome: Any = self.step(x, y) if self.draw.random() < 0.7 else self.step.repeat(1, x, y)[0]
        except (CallbackError, ValueError, ArithmeticError) as error:
            outcome = _kind(error)
        assert _bits([outcome]) == _bits([loss]), (self.backend, self.log)
        assert self.step.steps == before + (not isinstance(loss, type))
        self.numbers = numbers
        assert _bits(self.step.numbers) == _bits(numbers), (self.backend, self.log)

    def make_step(self) -> None:
        self.step_once(self.arguments(), self.draw.choice([-1.0, 0.5]))

    def interrupt(self) -> None:
        name, x = self.draw.choice(list(self.functions)), self.arguments()
        for parameter in self.layer.parameters():
            parameter.grad = 0.0
        try:
            with Interrupted(self.draw):
                self.got(name, x)
        except KeyboardInterrupt:
            self.counts["interrupts that arrived"] += 1
        self.compare(name, x)

    def interrupt_step(self) -> None:
        x, y = self.arguments(), 0.5
        loss, numbers = self.expected_step(x, y)
        before = self.step.steps
        try:
            with Interrupted(self.draw):
                self.step(x, y)
        except KeyboardInterrupt:
            self.counts["interrupts that arrived"] += 1
        except (ValueError, ArithmeticError) as error:
            raised = _kind(error)
            assert raised is loss, (self.backend, self.log)
        count = self.step.steps - before
        assert count in (0, 1)
        self.numbers = numbers if count else self.numbers
        assert _bits(self.step.numbers) == _bits(self.numbers), (self.backend, self.log)

    def fit(self) -> None:
        """A run of three steps; its callback changes something, raises, or interrupts."""
        what, at = self.draw.choice(["nothing", "change", "raise", "interrupt"]), self.draw.randrange(3)
        rows, scale = [[0.5, 1.0]], [1.0]
        weight = Value(0.25)

        def loss(X: Any, y: Any) -> Any:
            return (weight * X[0][0] * scale[0] + self.module.shift - y[0]) ** 2  # type: ignore[attr-defined]

        def callback(progress: Any) -> None:
            if progress.step == at:
                if what == "raise":
                    raise CallbackError
                if what == "interrupt":
                    raise KeyboardInterrupt
                if what == "change":
                    scale[0] = 2.0

        expected, losses = 0.25, []
        factor = 1.0
        for k in range(3 if what in ("nothing", "change") else at + 1):
            w = Value(expected)
            out = (w * 0.5 * factor + self.module.shift - 1.0) ** 2  # type: ignore[attr-defined]
            out.backward()
            losses.append(out.data)
            expected = w.data - 0.125 * w.grad
            factor = 2.0 if what == "change" and k >= at else 1.0
        try:
            history = nn.fit(
                loss, [weight], nn.SGD(0.125), rows, [1.0], steps=3, progress=False, callback=callback,
                backend=self.backend, seed=1,
            )  # fmt: skip
            assert _bits(history.loss) == _bits(losses), (self.backend, self.log, what)
        except CallbackError:
            assert what == "raise"
        assert weight.data.hex() == expected.hex(), (self.backend, self.log, what)

    def two_threads(self) -> None:
        name, x, y = self.draw.choice(list(self.functions)), self.arguments(), self.arguments()
        outcomes: dict[str, Any] = {}

        def work() -> None:
            outcomes["other"] = self.got(name, y)

        expected = [self.expected(name, x), self.expected(name, y)]
        thread = threading.Thread(target=work)
        thread.start()
        mine = self.got(name, x)
        thread.join()
        assert [_bits(mine), _bits(outcomes["other"])] == list(map(_bits, expected)), (self.backend, self.log)

    def check_state(self) -> None:
        """Nothing is left behind: no recorder, and the collector is on."""
        assert tracing.recorder() is None, self.log
        assert gc.isenabled(), self.log


class Interrupted:
    """Raises `KeyboardInterrupt` at one of the next lines of the package, as Ctrl-C does."""

    def __init__(self, draw: random.Random) -> None:
        self.left = int(math.exp(draw.uniform(0.0, math.log(20_000.0))))

    def __enter__(self) -> None:
        self.before = sys.gettrace()
        sys.settrace(self.trace)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self.before)

    def trace(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        self.left -= 1
        if self.left == 0:
            sys.settrace(self.before)
            raise KeyboardInterrupt
        return self.trace


def _kind(error: BaseException) -> type[BaseException]:
    """The built-in class of an exception."""
    kinds = (CallbackError, ZeroDivisionError, OverflowError, ValueError)
    return next((kind for kind in kinds if isinstance(error, kind)), type(error))


def _bits(numbers: Any) -> Any:
    if isinstance(numbers, type):
        return numbers
    return [number if isinstance(number, type) else float(number).hex() for number in numbers]


def check(seed: int) -> Counter[str]:
    """One interleaving; what happened in it, by kind."""
    world = World(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.CapturedStateWarning)  # of numbers that change again and again
        world.run()
    return world.counts


def main(count: int, first: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + count):
        try:
            counts += check(seed)
        except BaseException:
            print(f"interleaving {seed}")
            raise
    listed = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
    print(f"{count} interleavings, {listed}: 0 differences")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
