"""The command line: `flatgrad COMMAND` or `python -m flatgrad COMMAND`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .runtime.errors import FlatgradError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(prog="flatgrad", description="Write scalars, get machine speed.")
    parser.add_argument("--version", action="version", version=f"flatgrad {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="train micrograd's moons notebook with a compiled gradient")
    demo.add_argument("--steps", type=int, default=100, help="training steps (default: 100)")
    demo.add_argument("--out", type=Path, default=Path("flatgrad-demo"), help="folder for the generated source")
    show = commands.add_parser("show", help="print the program and the generated source of an expression")
    show.add_argument("expression", nargs="?", metavar="EXPR", help='such as "tanh(w*x + b)"')
    show.add_argument("--moons", action="store_true", help="instead: the loss of the demo, 65,000 scalar operations")
    show.add_argument("--source", action="store_true", help="only the source, without the program")
    show.add_argument("--all", action="store_true", help="all of it, where it is longer than two screens")
    show.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: on a terminal")
    options = parser.parse_args(arguments)
    try:
        if options.command == "demo":
            if options.steps < 1:
                parser.error(f"--steps must be at least 1, got {options.steps}")
            from .demo import run

            run(options.out, options.steps)
        else:
            if (options.expression is None) == (not options.moons):
                parser.error("give either an expression or --moons")
            _show(options)
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        sys.stderr.close()
    except (FlatgradError, OSError) as error:
        print(f"flatgrad: {error}", file=sys.stderr)
        return 2
    return 0


def _show(options: argparse.Namespace) -> None:
    from .show import Expression, kernel_of, show

    if options.moons:
        from .compiler.transforms import value_and_grad
        from .demo import moons

        model, loss, _ = moons()
        kernel = value_and_grad(loss, wrt=model, has_aux=True).kernel_for()
    else:
        kernel = kernel_of(Expression(options.expression))
    show(kernel, program=not options.source, everything=options.all, colour=options.color)
