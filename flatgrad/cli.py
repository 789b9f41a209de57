"""The command line: `flatgrad COMMAND` or `python -m flatgrad COMMAND`."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from . import __version__
from .runtime.errors import FlatgradError, OptionError

#: The exit status after Ctrl-C, as shells expect it: 128 and the signal's number.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, 2 for bad input, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="flatgrad", description="Write scalars, get machine speed.")
    parser.add_argument("--version", action="version", version=f"flatgrad {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="train micrograd's moons notebook with a compiled gradient")
    demo.add_argument("--steps", type=int, default=100, help="training steps (default: 100)")
    demo.add_argument("--out", type=Path, default=Path("flatgrad-demo"), help="folder for the generated source")
    demo.add_argument("--plot", action="store_true", help="draw the decision boundary, too (needs Matplotlib)")
    show = commands.add_parser("show", help="print the program and the generated source of an expression")
    show.add_argument("expression", nargs="?", metavar="EXPR", help='such as "tanh(w*x + b)"')
    show.add_argument("--moons", action="store_true", help="instead: the loss of the demo, 65,000 scalar operations")
    what = show.add_mutually_exclusive_group()
    for name, description in (
        ("stages", "instead: the program after each pass"),
        ("source", "only the source, without the program"),
        ("arrays", "instead: the array program, with the loops of the scalar program (without EXPR: of --moons)"),
        ("rolled", "instead: these loops as Python source (without EXPR: of --moons)"),
    ):
        what.add_argument(f"--{name}", dest="what", action="store_const", const=name, default="", help=description)
    show.add_argument("--all", action="store_true", help="all of it, where it is longer than two screens")
    show.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: on a terminal")
    _add_train(commands)
    _add_predict(commands)
    _add_cache(commands)
    options = parser.parse_args(_with_minus(sys.argv[1:] if arguments is None else arguments))
    if options.command == "demo" and options.steps < 1:
        parser.error(f"--steps must be at least 1, got {options.steps}")
    if options.command == "show":
        options.moons |= options.expression is None and options.what in ("arrays", "rolled")
        if (options.expression is None) == (not options.moons):
            parser.error("give either an expression or --moons")
    run = {"demo": _demo, "show": _show, "train": _train, "predict": _predict, "cache": _cache}[options.command]
    try:
        return run(options) or 0
    except BrokenPipeError:  # the reader, such as `head`, has ended
        sys.stderr.close()
        return 0
    except (FlatgradError, OSError) as error:
        print(f"flatgrad: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("flatgrad: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _with_minus(arguments: Sequence[str]) -> list[str]:
    """The arguments, with an expression that begins with a minus after `--`, where it is not taken for an option."""
    if list(arguments[:1]) != ["show"] or "--" in arguments:
        return list(arguments)
    expressions = [a for a in arguments if a.startswith("-") and not a.startswith("--") and a != "-h"]
    return [a for a in arguments if a not in expressions] + (["--", *expressions] if expressions else [])


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser(
        "train",
        help="train a model on a CSV file",
        description="Train a multi-layer perceptron on a CSV file with a header, and write it to a folder: the model, "
        "its preprocessing, the history, a picture of the losses, and the generated source of the training loop.",
        epilog="Numbers are standardised, a missing one is taken as the mean; texts become one input per category. "
        "Statistics come from the training rows alone. Exit status: 0, 2 for bad input, 130 after Ctrl-C (what was "
        "trained until then is written).",
    )
    train.add_argument("data", type=Path, metavar="DATA.csv", help="comma, semicolon or tab separated, UTF-8")
    train.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict")
    train.add_argument("--task", default="auto", help="classify, regress or auto: by the target column (default)")
    train.add_argument(
        "--hidden", type=_sizes, default=(16, 16), metavar="N,N", help='sizes of hidden layers, or "none" (16,16)'
    )
    train.add_argument("--activation", default="tanh", metavar="NAME", help="tanh (default), relu, sigmoid, ...")
    train.add_argument("--epochs", type=int, metavar="N", help="default: 50, more for small tables")
    train.add_argument("--batch-size", type=int, metavar="N", help="rows per step (default: 16, fewer if very wide)")
    train.add_argument("--optimizer", default="adamw", metavar="NAME", help="adamw (default), adam, sgd, rmsprop")
    train.add_argument(
        "--lr", type=float, metavar="F", help="learning rate at the start (0.01 for AdamW); it decays along a cosine"
    )
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of split, initialisation, shuffling (0)")
    train.add_argument("--validation", type=float, default=0.2, metavar="F", help="fraction to validate on (0.2)")
    train.add_argument("--ignore", type=_names, default=(), metavar="A,B", help="columns to leave out")
    train.add_argument(
        "--categorical", type=_names, default=(), metavar="A,B", help="columns of numbers that are categories"
    )
    train.add_argument("--out", type=Path, default=Path("flatgrad-model"), metavar="DIR", help="default: %(default)s")


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict with a model that `train` wrote",
        description="Predict the target for each row of a CSV file. The result is a CSV file with the predicted class "
        "and its probability, or with the number in the target's unit; its rows are in the order of the data.",
    )
    predict.add_argument("model", type=Path, metavar="DIR", help="the folder that `flatgrad train` wrote")
    predict.add_argument("data", type=Path, metavar="DATA.csv", help="with the columns that the model was trained on")
    predict.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: standard output)")


def _add_cache(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    cache = commands.add_parser(
        "cache",
        help="what compiled code is kept for later processes",
        description="Show or empty the folder in which compiled code is kept, so that a second process starts without "
        "compiling.",
        epilog="FLATGRAD_CACHE=0 turns it off, FLATGRAD_CACHE_DIR is another folder, FLATGRAD_CACHE_SIZE another limit "
        "in MB (default: 256).",
    )
    cache.add_argument("action", choices=("info", "clear"), help="show its state, or remove all that is in it")


def _sizes(text: str) -> tuple[int, ...]:
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected sizes such as 16,16, or none, got {text!r}") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _demo(options: argparse.Namespace) -> None:
    from .demo import run

    run(options.out, options.steps, plot=options.plot)


def _train(options: argparse.Namespace) -> int:
    from .tabular import Settings, train

    _configure_output(errors="backslashreplace")  # names of classes may have letters that a terminal cannot show
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    _, history, _ = train(options.data, settings, options.out, echo=_echo, note=_note)
    if history.interrupted:
        print("flatgrad: interrupted; what was trained until then is written", file=sys.stderr)
        return _INTERRUPTED
    _echo(f"predict with: flatgrad predict {options.out} NEW.csv")
    return 0


def _predict(options: argparse.Namespace) -> None:
    from .runtime.files import write_atomically
    from .tabular import TabularModel, read_csv

    out: Path | None = options.out
    if out is not None and out.exists() and options.data.exists() and out.samefile(options.data):
        raise OptionError(f"--out {out} is the file with the data; give another one")
    predictions = TabularModel.load(options.model).predict(read_csv(options.data), note=_note)
    stream = io.StringIO()
    predictions.write(stream)
    if out is None:
        _configure_output(encoding="utf-8")  # like a file, whatever the terminal's encoding
        print(stream.getvalue(), end="")
    else:
        write_atomically(out, stream.getvalue().encode())


def _cache(options: argparse.Namespace) -> None:
    from .compiler.machine.cache import ObjectCache

    _configure_output(errors="backslashreplace")  # names of folders may have letters that a terminal cannot show
    cache = ObjectCache()
    info = cache.info()
    folder = "none" if info.path is None else info.path
    if options.action == "info":
        _echo(f"folder   {folder}")
        _echo(f"entries  {info.entries:,}")
        _echo(f"size     {_human(info.bytes)} of at most {_human(info.limit)}")
        _echo(f"state    {'on' if info.enabled else f'off: {info.reason}'}")
    elif info.path is None:
        _echo(f"there is nothing to remove: {info.reason}")
    else:
        count = cache.clear()
        _echo(f"removed {count:,} {'entry' if count == 1 else 'entries'} from {folder}")


def _human(size: int) -> str:
    """A number of bytes, rounded, with its unit."""
    if size < 1_000:
        return "1 byte" if size == 1 else f"{size} bytes"
    for unit, name in ((1e3, "kB"), (1e6, "MB")):
        if size < 999.5 * unit:
            return f"{size / unit:.3g} {name}"
    return f"{size / 1e9:,.2f} GB"


def _configure_output(**options: Any) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(**options)


def _echo(line: str) -> None:
    print(line, flush=True)  # before the next line on the other stream


def _note(text: str) -> None:
    print(f"flatgrad: note: {text}", file=sys.stderr)


def _show(options: argparse.Namespace) -> None:
    from .show import Expression, kernel_of, show

    if options.moons:
        from .compiler.transforms.gradients import value_and_grad
        from .demo import moons

        model, loss, _ = moons()
        kernel = value_and_grad(loss, wrt=model, has_aux=True, backend="python").kernel_for()
    else:
        kernel = kernel_of(Expression(options.expression))
    show(kernel, what=options.what, everything=options.all, colour=options.color)
