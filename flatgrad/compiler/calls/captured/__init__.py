"""What a function reads from outside, and whether it has changed since the function was traced.

A trace runs the function once. Numbers that the function reads from closures, globals and attributes become constants
of the program, flags decide its branches, lists and models decide which `Value`s take part. If one of these changes,
the program no longer computes what the function means. A `Captured` holds them, and says whether they have changed.

The names are in the bytecode of the function (`reads`), and of the user's functions that it calls (`search`): by these
names, as methods of objects that can be reached, or wrapped. An attribute counts if any of these functions reads an
attribute of that name. So more is compared than the function has read, and never less, except for what no name leads
to: data inside C code, results of `__getattr__`, files, clocks. Code counts as well: that of a function, and
definitions in a class and its bases. A place without a value counts, too, if the function may ask whether it has one.

There are two comparisons. `Captured.unchanged` compares identities (`identities`): tens of nanoseconds per name in
Python, a few in machine code (`watches`). Where an identity differs, `Captured.same` compares contents (`contents`): a
number that was computed again is still the same number.

The files, each using only those before it: `reads`, `contents`, `references`, `identities`, `watches`, `draws`,
`search`, `state`, `settling`, `variants`.
"""

from .references import Called
from .settling import trace_settled
from .state import Captured
from .variants import E, HasCaptured, Variants

__all__ = ["Called", "Captured", "E", "HasCaptured", "Variants", "trace_settled"]
