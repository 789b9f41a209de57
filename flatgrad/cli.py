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
    options = parser.parse_args(arguments)
    try:
        from .demo import run

        if options.steps < 1:
            parser.error(f"--steps must be at least 1, got {options.steps}")
        run(options.out, options.steps)
    except (FlatgradError, OSError) as error:
        print(f"flatgrad: {error}", file=sys.stderr)
        return 2
    return 0
