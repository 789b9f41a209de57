"""The loop around training steps, as source: batches, the numbers of a step, and what is made of both."""

from __future__ import annotations

from collections.abc import Sequence

from ...runtime.wording import count_of

#: Rows of one number may be given as that number, as they may to `fit`.
_ROWS = 'X, y = ([row if hasattr(row, "__len__") else [row] for row in rows] for rows in (X, y))'


def emit_step_numbers(lines: Sequence[str], names: Sequence[str]) -> str:
    """A function that computes what depends on the step alone: `lines` are statements that give it these names."""
    head = [
        "def numbers(step):",
        '    """The learning rate and whatever else depends on the step alone; steps count from 0."""',
    ]
    return "\n\n" + "\n".join([*head, *(f"    {line}" for line in lines), f"    return {_tuple(names)}"]) + "\n"


def emit_all_numbers(lines: Sequence[str], names: Sequence[str]) -> str:
    """A generator of these numbers for a range of steps, one behind the other."""
    head = ["def all_numbers(first, end):", "    for step in range(first, end):"]
    return "\n\n" + "\n".join([*head, *(f"        {line}" for line in (*lines, *map("yield {}".format, names)))]) + "\n"


def _tuple(names: Sequence[str]) -> str:
    return ", ".join(names) + ("," if len(names) == 1 else "")


def emit_epochs(rows: int, shuffled: bool) -> str:
    """The generator `epochs`: the order of the rows, for the loop here and for that in machine code."""
    lines = [
        "def epochs(seed):",
        '    """The rows in the order in which each epoch takes them, without end."""',
        f"    order = list(range({rows}))",
        *["    shuffle = random.Random(seed).shuffle"] * shuffled,
        "    while True:",
        *["        shuffle(order)"] * shuffled,
        "        yield order",
    ]
    return "\n\n" + "\n".join(lines) + "\n"


def _check(rows: int, widths: tuple[int, int], arrays: tuple[str, str] | None) -> list[str]:
    """Statements that refuse rows of other lengths, which would be read as other numbers: of arrays by their sizes."""
    x, y = widths
    if arrays is None:
        condition = f"any(len(row) != {x} for row in X) or any(len(row) != {y} for row in y)"
    else:
        condition = f"{arrays[0]}.size != {rows * x} or {arrays[1]}.size != {rows * y}"
    message = f"this loop was generated for rows of X with {count_of(x, 'number')} and of y with {y}"
    return [f"if {condition}:", f'    raise ValueError("{message}")']


def emit_loop(
    rows: int, widths: tuple[int, int], sizes: Sequence[int], seed: int | None, *, batched: bool, states: int,
    has_leaves: bool, arrays: bool,
) -> str:  # fmt: skip
    """The generator `train`, which runs steps over batches: all rows, or parts of them in the order of `epochs`.

    Args:
        rows: how many rows of data the loop is for.
        widths: how many numbers are in a row of X, and of y.
        sizes: the sizes of batches that occur, the usual one first; there is a function `step_N` for each.
        seed: the default seed of the shuffling.
        batched: whether steps are made on batches.
        states: how many lists of state the optimiser has.
        has_leaves: whether steps read further leaves (frozen parameters).
        arrays: whether the steps work on arrays.
    """
    state = ", *state" if states else ""
    arguments = f"parameters{state}, *numbers(step){', LEAVES' if has_leaves else ''}"
    flat = "np.array({0}, dtype=float).ravel()" if arrays else "[number for row in {0} for number in row]"
    selection = "{0}[batch].ravel()" if arrays else "[number for row in batch for number in {0}[row]]"
    if batched:
        before = ["X, y = np.array(X, dtype=float), np.array(y, dtype=float)"] if arrays else [_ROWS]
        before += _check(rows, widths, ("X", "y") if arrays else None)
        before += [f"starts = range(0, {rows}, {sizes[0]})"]
        before += [f"batches = (order[start:start + {sizes[0]}] for order in epochs(seed) for start in starts)"]
        head = "for step, batch in zip(range(steps), batches):"
        within = [
            "if step < first:",
            "    continue",
            *(f"{name.lower()}_batch = {selection.format(name)}" for name in "Xy"),
        ]
        call = "STEPS[len(batch)](x_batch, y_batch, "
    else:
        before = [] if arrays else [_ROWS, *_check(rows, widths, None)]
        before += [*(f"{name.lower()}_all = {flat.format(name)}" for name in "Xy")]
        before += [*(_check(rows, widths, ("x_all", "y_all")) if arrays else []), f"run = STEPS[{rows}]"]
        head, within, call = "for step in range(first, steps):", [], "run(x_all, y_all, "
    body = [
        "def train(X, y, parameters=None, state=None, *, steps, seed=SEED, first=0):",
        '    """Train; after each step yield its number, its loss, the parameters and the optimiser\'s state.',
        "",
        f"    X, y: lists of {rows:,} rows, each a list of numbers, or a number",
        "    parameters: a list of numbers, PARAMETERS by default",
        f"    state: {states} lists of numbers, zeros by default",
        "    steps: run up to this step; first: begin with this one, which `parameters` and `state` are for",
        "    seed: of the shuffling",
        '    """',
        f"    if len(X) != {rows} or len(y) != {rows}:",
        f'        raise ValueError("this loop was generated for {rows} rows, got %d and %d" % (len(X), len(y)))',
        "    if parameters is None:",
        "        parameters = PARAMETERS",
        "    if state is None:",
        f"        state = [[0.0] * len(parameters) for _ in range({states})]",
        *(f"    {line}" for line in before),
        f"    {head}",
        *(f"        {line}" for line in within),
        f"        loss, parameters{state} = {call}{arguments})",
        "        yield step, loss, parameters, state",
    ]
    steps = ", ".join(f"{size}: step_{size}" for size in sizes)
    head = f"#: A step for each size of batch.\nSTEPS = {{{steps}}}\nSEED = {seed!r}\n"
    return "\n\n" + head + "\n\n" + "\n".join(body) + "\n"
