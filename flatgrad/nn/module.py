"""`Module`: something with parameters."""

from __future__ import annotations

from ..runtime.value import Value


class Module:
    """The base of models: little more than `parameters()`.

    A Module among the arguments of a compiled function is part of the structure, by identity.
    """

    def parameters(self) -> list[Value]:
        """The `Value`s to train, always in the same order."""
        return []

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0."""
        for parameter in self.parameters():
            parameter.grad = 0.0
