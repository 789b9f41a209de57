"""What a function reads from outside of itself, as it was when the function was traced.

A trace runs the function once. Numbers that it reads from closures, globals and attributes become constants of the
program, flags decide its branches, lists and models decide which `Value`s take part. When one of these is another one
at a later call, the program is no longer what the function means. A `Captured` remembers them, and says whether they
still are what they were.

Which names a function reads stands in its bytecode (`reads`). The functions that it calls are followed, as far as they
are the user's own (`search`): by the same names, by the methods of the objects that can be reached, and into functions
that are wrapped. An attribute counts if any of these functions reads one of that name. That is more than the function
has read on its way, and never less, except for what no name in the code leads to: items that C code keeps, results of
`__getattr__`, files, clocks. The code itself counts: that of a function, and what a class and its bases define. That
nothing is in a place counts where the function may ask for it.

Comparing is done twice. `Captured.unchanged` compares identities (`identities`), some tens of nanoseconds per name, and
machine code does the same in a few (`watches`). `Captured.same` compares contents (`contents`), and is asked where an
identity differs: a number that was computed again is still the same number.

The files, each using only those before it: `reads`, `contents`, `references`, `identities`, `watches`, `draws`,
`search`, `state`, `settling`, `variants`.
"""

from .references import Called
from .settling import trace_settled
from .state import Captured
from .variants import Variants

__all__ = ["Called", "Captured", "Variants", "trace_settled"]
