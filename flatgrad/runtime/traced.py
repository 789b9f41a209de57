"""`Value`s and conditions of a function that is being traced: variables of a program, without numbers."""

from __future__ import annotations

from typing import Any

from .tracing import forbidden, recorder, refuse
from .value import Condition, Value

_KEY = "Compare with fg.equal(a, b) inside fg.where; to tell nodes apart, use id(value) as the key."


class TracedValue(Value):
    """A `Value` of a function that is being traced: a variable of the program, without a number."""

    __slots__ = ("_index", "_trace")

    _index: int
    _trace: Any
    # These are the same for all.
    _primitive = None
    _operands = ()

    def _escaped(self, *number: float) -> Any:
        raise refuse(
            "this Value was created while a function was being traced and has escaped from it; it has no number. "
            "Return it from the function instead",
            self._trace,
        )

    def _no_plain_number(self, kind: str, remedy: str) -> Exception:
        if recorder() is None:
            self._escaped()
        return super()._no_plain_number(kind, remedy)

    def __hash__(self) -> int:
        if recorder() is None:
            self._escaped()
        raise forbidden("using a traced Value as a key (of a dict, a set, functools.lru_cache)", _KEY)

    # These stand in place of the slots that hold numbers, and raise when one is read or written.
    _number = _grad = _bar = property(_escaped, _escaped)

    def _no_graph(self) -> Any:
        if recorder() is None:
            self._escaped()
        raise refuse(
            "a function that is being traced has no graph yet: _prev, _op and drawings of its Values are not known. "
            "Look at the graph outside of it, or at the program, kernel.program"
        )

    _prev = _op = property(_no_graph)

    def __repr__(self) -> str:
        return "Value(data=<traced>)"


class TracedCondition(Condition):
    """A condition of a function that is being traced."""

    __slots__ = ("_index", "_trace")

    _index: int
    _trace: Any
    _primitive = None  # type: ignore[assignment]
    _operands = ()

    @property
    def _number(self) -> bool:  # type: ignore[override]
        raise refuse(
            "this condition was created while a function was being traced and has escaped from it", self._trace
        )

    def __bool__(self) -> bool:
        """The truth value for the numbers at hand; the program holds only as long as it stays the same."""
        if recorder() is None:
            return self._number
        truth: bool = self._trace.decide(self)
        return truth

    _prev = _op = property(TracedValue._no_graph)

    def __repr__(self) -> str:
        return "Condition(<traced>)"


# In errors, Python's and ours, they have the names that users know.
TracedValue.__name__ = TracedValue.__qualname__ = Value.__name__
TracedCondition.__name__ = TracedCondition.__qualname__ = Condition.__name__
