"""The command line: `flatgrad COMMAND` or `python -m flatgrad COMMAND`."""

from __future__ import annotations

import argparse
import io
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from . import __version__, terminal
from .compiler.kernel import BaseKernel
from .compiler.options import Backend
from .runtime.errors import FlatgradError, OptionError
from .tabular.settings import PATIENCE

if TYPE_CHECKING:
    _Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

#: The exit status after Ctrl-C, as shells expect it: 128 and the signal's number.
_INTERRUPTED = 130
#: The environment variable that asks for tracebacks in full.
_FULL = "FLATGRAD_FULL_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: of the command line, without the program's name; by default those of the process.

    Returns:
        The exit status: 0; 1 for a bug of flatgrad's; 2 for bad input; 130 after Ctrl-C.
    """
    try:
        options = _parser().parse_args(_with_minus(sys.argv[1:] if arguments is None else arguments))
        return options.run(options) or 0
    except BrokenPipeError:  # the reader, such as `head`, has ended
        sys.stderr.close()
        return 0
    except FlatgradError as error:
        terminal.error("\n".join([str(error), *error.__notes__]))
        return 2
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        terminal.error(f"{error.strerror}{where}" if error.strerror else str(error))
        return 2
    except KeyboardInterrupt:
        terminal.error("interrupted")
        return _INTERRUPTED
    except Exception as error:
        if os.environ.get(_FULL, "") not in ("", "0"):
            raise
        terminal.error(f"a bug of flatgrad: {type(error).__name__}: {error}. {_FULL}=1 shows where; please report it")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flatgrad",
        description="Write scalars, get machine speed, to the last bit.",
        epilog=_examples(
            ("flatgrad demo", "micrograd's moons notebook, compiled"),
            ('flatgrad show "tanh(w*x + b)"', "what becomes of an expression"),
            ("flatgrad train data.csv --target price", "a model for a table"),
            ("flatgrad COMMAND --help", "options and examples of a command"),
        )
        + "\n\nexit status: 0; 2 for bad input; 130 after Ctrl-C; 1 for a bug of flatgrad's",
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"flatgrad {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for add in (_add_demo, _add_show, _add_explain, _add_train, _add_predict, _add_errors, _add_cache):
        add(commands)
    return parser


#: What argparse leaves free at the right of the terminal.
_MARGIN = 2


class _Help(argparse.HelpFormatter):
    """Help that fits into the terminal: paragraphs are wrapped, and examples stand beside what they do, or above it."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(self._paragraph(paragraph, width) for paragraph in text.split("\n\n"))

    def _paragraph(self, text: str, width: int) -> str:
        rows = [line.split("\t") for line in text.split("\n")]
        if len(rows) == 1:
            return textwrap.fill(text, width)
        commands = max(len(row[0]) for row in rows)
        if commands + max(len(row[-1]) for row in rows) + 3 <= width + _MARGIN:
            return "\n".join("   ".join([f"{row[0]:{commands}}", *row[1:]]).rstrip() for row in rows)
        return "\n".join("\n      ".join(row) for row in rows)


def _examples(*lines: tuple[str, str]) -> str:
    """Commands, each with what it does."""
    return "\n".join(["examples:", *(f"  {command}\t{what}" for command, what in lines)])


def _command(
    commands: _Commands, name: str, run: Callable[[argparse.Namespace], int | None], short: str, *, about: str, end: str
) -> argparse.ArgumentParser:
    """A command's parser: `short` is in the list of commands, `about` and `end` are around its options."""
    parser = commands.add_parser(name, help=short, description=about, epilog=end, formatter_class=_Help)
    parser.set_defaults(run=run)
    return parser


def _with_minus(arguments: Sequence[str]) -> list[str]:
    """The arguments, with a space before an expression that begins with a minus, so that it is taken for no option."""
    if list(arguments[:1]) not in (["show"], ["explain"]) or "--" in arguments:
        return list(arguments)
    return [f" {a}" if a.startswith("-") and not a.startswith("--") and a != "-h" else a for a in arguments]


# --- options ------------------------------------------------------------------------------------------------------


def _add_demo(commands: _Commands) -> None:
    demo = _command(
        commands,
        "demo",
        _demo,
        "train micrograd's moons notebook with a compiled gradient",
        about="Train the model of micrograd's moons notebook in machine code, with the losses that the notebook "
        "published, to the last digit. Write the training loop, as Python.",
        end=_examples(("flatgrad demo", "100 steps"), ("flatgrad demo --plot", "with a picture of the decisions")),
    )
    demo.add_argument("--steps", type=_positive, default=100, metavar="N", help="training steps (default: 100)")
    demo.add_argument("--out", type=_path, default=Path("flatgrad-demo"), metavar="DIR", help="default: %(default)s")
    demo.add_argument("--plot", action="store_true", help="draw the decision boundary (needs Matplotlib)")


def add_target(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what is compiled: those that `target_kernel` reads."""
    target = parser.add_argument_group("what is compiled")
    target.add_argument(
        "target", nargs="?", metavar="EXPR|SCRIPT.py:FUNCTION", help='such as "tanh(w*x + b)", or model.py:loss'
    )
    target.add_argument(
        "samples", nargs="*", metavar="ARG", help='of the function, such as 1.0, "[1.0, 2.0]", "zeros(3, 2)"'
    )
    target.add_argument("--moons", action="store_true", help="the loss of the demo, 65,000 scalar operations")
    target.add_argument(
        "--wrt", type=_names, default=(), metavar="A,B",
        help="arguments to differentiate with respect to, or a model in the file (default: all that hold floats)",
    )  # fmt: skip
    target.add_argument("--no-gradient", action="store_true", help="the function alone, without its gradient")


def target_kernel(options: argparse.Namespace, backend: Backend = "python") -> BaseKernel:
    """The kernel that the arguments of `add_target` ask for, on a back end.

    Raises:
        FlatgradError: if there is none, with the reason.
    """
    from .scripts import is_script, kernel_of_script
    from .show import Expression, kernel_of

    if (options.target is None) == (not options.moons):
        raise OptionError("give an expression, a function as SCRIPT.py:FUNCTION, or --moons")
    if options.moons:
        from .compiler.transforms.gradients import value_and_grad
        from .demo import moons

        model, loss, _ = moons()
        return value_and_grad(loss, wrt=model, has_aux=True, backend=backend).kernel_for()
    if is_script(options.target):
        gradient = not options.no_gradient
        return kernel_of_script(options.target, options.samples, wrt=options.wrt, gradient=gradient, backend=backend)
    file = options.target.rpartition(":")[0]
    if file and Path(file).is_file():
        raise OptionError(f"{file} is no Python file: a function is named as SCRIPT.py:FUNCTION")
    if options.samples:
        raise OptionError(f"an expression takes no arguments, got {' '.join(options.samples)}; quote it as a whole")
    return kernel_of(Expression(options.target), gradient=not options.no_gradient, backend=backend)


def _add_explain(commands: _Commands) -> None:
    explain = _command(
        commands,
        "explain",
        _explain,
        "write a page that shows what becomes of a function, line by line",
        about="Write one HTML file on which each line of a function lights up what it came from and what it became: "
        "equations and their adjoint, with values and gradients, flat Python, loops, the processor's instructions. "
        "The page needs no network.",
        end=_examples(
            ('flatgrad explain "tanh(w*x + b)" --at x=2', "an expression, at a number"),
            ("flatgrad explain model.py:loss 1.0 2.0", "a function, at these arguments"),
            ("flatgrad explain --moons --out moons.html", "micrograd's moons notebook"),
            ('flatgrad explain "x * x" --json', "the same as data"),
        ),
    )
    add_target(explain)
    explain.add_argument("--at", action="append", default=[], metavar="NAME=NUMBER", help="the number of an input")
    explain.add_argument("--out", type=_path, metavar="FILE", help="where to write (default: explain.html)")
    explain.add_argument("--json", action="store_true", help="print the same as data, or write it to FILE")


def _add_show(commands: _Commands) -> None:
    show = _command(
        commands,
        "show",
        _show,
        "show an expression or a function, from the program to machine code",
        about="Show what becomes of an expression, or of a function in a file, for sample arguments: by default the "
        "scalar program with its gradient, and the Python source that is made of it. Of what is longer than two "
        "screens the first and the last one are shown. The file of a function is run, as a module; nothing of an "
        "expression is.",
        end=_examples(
            ('flatgrad show "tanh(w*x + b)"', "program and source"),
            ('flatgrad show --passes "x * x + 1"', "the program after each pass"),
            ('flatgrad show model.py:loss 0.5 "[1.0, 2.0]"', "a function, for arguments of these kinds"),
            ('flatgrad show --llvm --wrt net model.py:loss "zeros(16, 2)"', "what LLVM gets"),
            ("flatgrad show --moons --arrays --rolled", "the loops in 65,000 operations, and as Python"),
        ),
    )
    add_target(show)
    stages = show.add_argument_group("stages (several may be given)")
    for name, (_, description) in _stages().items():
        stages.add_argument(f"--{name}", dest="stages", action="append_const", const=name, help=description)
    output = show.add_argument_group("output")
    output.add_argument("--all", action="store_true", help="all of it, where it is longer than two screens")
    _add_colour(output)


def _stages() -> dict[str, tuple[str, str]]:
    from .show import STAGES

    return STAGES


def _add_colour(output: Any) -> None:
    output.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="auto: on a terminal, without NO_COLOR"
    )


def _add_train(commands: _Commands) -> None:
    train = _command(
        commands,
        "train",
        _train,
        "train a model on a CSV file",
        about="Train a multi-layer perceptron on a CSV file with a header, and write it to a folder: the model, its "
        "preprocessing, the history, a picture of it, and the training loop as Python that needs no packages. Numbers "
        "are standardised, a missing one is taken as the mean; texts become one input per category. Statistics come "
        "from the training rows alone. Of a small table, many runs that leave some rows out say how good the model is, "
        "and how long to train it on all rows. Otherwise training stops when the validation loss gets no better, and "
        "the best epoch is kept. After Ctrl-C what was trained until then is written.",
        end=_examples(
            ("flatgrad train iris.csv --target species", "classes, or numbers: the column says"),
            ("flatgrad train houses.csv --target price --hidden none", "a linear model"),
            ("flatgrad train data.csv --target y --out model2 --seed 1", "another run beside the first"),
        ),
    )
    train.add_argument("data", type=_path, metavar="DATA.csv", help="comma, semicolon or tab separated, UTF-8")
    data = train.add_argument_group("data")
    data.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict")
    data.add_argument("--task", default="auto", help="classify, regress or auto: by the target column (default)")
    data.add_argument("--ignore", type=_names, default=(), metavar="A,B", help="columns to leave out")
    data.add_argument(
        "--categorical", type=_names, default=(), metavar="A,B", help="columns of numbers that are categories"
    )
    data.add_argument(
        "--folds", type=int, metavar="N",
        help="cross-validate on so many folds, then train on all rows (default: 10 up to 2,000 rows); 0: do not",
    )  # fmt: skip
    data.add_argument(
        "--validation", type=float, metavar="F", help="without folds: fraction of rows to validate on (default: 0.2)"
    )
    model = train.add_argument_group("model")
    model.add_argument(
        "--hidden", type=_sizes, default=(16, 16), metavar="N,N", help='sizes of hidden layers, or "none" (16,16)'
    )
    model.add_argument("--activation", default="tanh", metavar="NAME", help="tanh (default), relu, sigmoid, ...")
    run = train.add_argument_group("training")
    run.add_argument("--epochs", type=int, metavar="N", help="at most so many (default: 50, more for small tables)")
    run.add_argument(
        "--patience", type=int, metavar="N",
        help=f"stop after so many epochs without a better validation loss; 0: never (default: half of all epochs, "
        f"at least {PATIENCE})",
    )  # fmt: skip
    run.add_argument("--batch-size", type=int, metavar="N", help="rows per step (default: 16, fewer if very wide)")
    run.add_argument("--optimizer", default="adamw", metavar="NAME", help="adamw (default), adam, sgd, rmsprop")
    run.add_argument(
        "--lr", type=float, metavar="F", help="learning rate at the start (0.01 for AdamW); it decays along a cosine"
    )
    run.add_argument("--seed", type=int, default=0, metavar="N", help="of split, initialisation, shuffling (0)")
    output = train.add_argument_group("output")
    output.add_argument("--out", type=_path, default=Path("flatgrad-model"), metavar="DIR", help="default: %(default)s")
    output.add_argument("--overwrite", action="store_true", help="replace the model that is in this folder")
    output.add_argument("--plot", action="store_true", help="draw the history as loss.png, too (needs Matplotlib)")
    _add_colour(output)


def _add_predict(commands: _Commands) -> None:
    predict = _command(
        commands,
        "predict",
        _predict,
        "predict with a model that `train` wrote",
        about="Predict the target for each row of a CSV file. The result is a CSV file with the predicted class and "
        "its probability, or with the number in the target's unit; its rows are in the order of the data.",
        end=_examples(
            ("flatgrad predict flatgrad-model new.csv", "print the predictions"),
            ("flatgrad predict model new.csv --out predictions.csv", "write them to a file"),
        ),
    )
    predict.add_argument("model", type=_path, metavar="DIR", help="the folder that `flatgrad train` wrote")
    predict.add_argument("data", type=_path, metavar="DATA.csv", help="with the columns that the model was trained on")
    predict.add_argument("--out", type=_path, metavar="FILE", help="where to write (default: standard output)")


def _add_errors(commands: _Commands) -> None:
    errors = _command(
        commands,
        "errors",
        _errors,
        "what an error or a warning means, and what to do about it",
        about="List all errors and warnings of flatgrad's, or explain one: its cause, an example, and a remedy.",
        end=_examples(("flatgrad errors", "the list"), ("flatgrad errors DomainError", "one of them")),
    )
    errors.add_argument("name", nargs="?", metavar="NAME", help="of an error or a warning, as its message has it")
    _add_colour(errors)


def _add_cache(commands: _Commands) -> None:
    cache = _command(
        commands,
        "cache",
        _cache,
        "what compiled code is kept for later processes",
        about="Show or empty the folder in which compiled code is kept, so that a second process starts without "
        "compiling.",
        end=_examples(("flatgrad cache info", "where it is, and its size"), ("flatgrad cache clear", "empty it"))
        + "\n\nFLATGRAD_CACHE=0 turns it off, FLATGRAD_CACHE_DIR is another folder, FLATGRAD_CACHE_SIZE "
        "another limit in MB (default: 256).",
    )
    cache.add_argument("action", choices=("info", "clear"), help="show its state, or remove all that is in it")


def _path(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("the name of a file or a folder is empty")
    return Path(text)


def _positive(text: str) -> int:
    number = int(text) if text.strip("+-").isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _sizes(text: str) -> tuple[int, ...]:
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected sizes such as 16,16, or none, got {text!r}") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


# --- commands -----------------------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> None:
    from .demo import run

    run(options.out, options.steps, plot=options.plot)


def _train(options: argparse.Namespace) -> int:
    from .tabular import Settings, train

    _configure_output(errors="backslashreplace")  # names of classes may have letters that a terminal cannot show
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    screen = terminal.Terminal(sys.stdout, options.color)
    _, history, _ = train(
        options.data,
        settings,
        options.out,
        overwrite=options.overwrite,
        plot=options.plot,
        echo=_echo,
        note=terminal.note,
        table=screen.table,
        started=0.0,
    )
    if history.interrupted:
        terminal.error("interrupted; what was trained until then is written")
        return _INTERRUPTED
    _echo(f"predict with: flatgrad predict {options.out} NEW.csv")
    return 0


def _predict(options: argparse.Namespace) -> None:
    from .runtime.files import write_atomically
    from .tabular import TabularModel, read_csv

    out: Path | None = options.out
    if out is not None and out.exists() and options.data.exists() and out.samefile(options.data):
        raise OptionError(f"--out {out} is the file with the data; give another one")
    predictions = TabularModel.load(options.model).predict(read_csv(options.data), note=terminal.note)
    stream = io.StringIO()
    predictions.write(stream)
    if out is None:
        _configure_output(encoding="utf-8")  # like a file, whatever the terminal's encoding
        print(stream.getvalue(), end="")
    else:
        write_atomically(out, stream.getvalue().encode())


def _errors(options: argparse.Namespace) -> None:
    from . import entries

    _configure_output(encoding="utf-8")
    screen, text = terminal.Terminal(sys.stdout, options.color), entries.page()
    _echo(entries.listing(text, screen) if options.name is None else entries.entry(text, options.name, screen))


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


def _explain(options: argparse.Namespace) -> None:
    from .explain.command import explain

    _configure_output(encoding="utf-8")
    path = explain(target_kernel(options, "auto"), options.at, options.out, as_json=options.json)
    if path is not None:
        _echo(f"written: {path}")


def _show(options: argparse.Namespace) -> None:
    from .show import show

    options.moons |= options.target is None and set(options.stages or ()) in ({"arrays"}, {"rolled"})
    stages = options.stages or ("program", "python")
    show(target_kernel(options), stages, everything=options.all, colour=options.color)
