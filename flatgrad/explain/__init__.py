"""Explaining kernels: a page on which each line lights up what it came from, and what became of it.

`model.explained` gathers what is shown, as data: the user's lines, the equations of the program and of its adjoint,
flat Python, the loops, the processor's instructions, and the links between them. `page.html` shows it.
"""

from .model import explained
from .page import html, write

__all__ = ["explained", "html", "write"]
