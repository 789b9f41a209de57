"""The loop around training steps, as source: batches, shuffling, the numbers of a step."""

from __future__ import annotations

from collections.abc import Sequence


def emit_step_numbers(lines: Sequence[str], names: Sequence[str]) -> str:
    """A function that computes what depends on the step alone: `lines` are statements that give it these names."""
    head = [
        "def numbers(step):",
        '    """The learning rate and whatever else depends on the step alone; steps count from 0."""',
    ]
    return "\n\n" + "\n".join([*head, *(f"    {line}" for line in lines), f"    return {_tuple(names)}"]) + "\n"


def emit_all_numbers(lines: Sequence[str], names: Sequence[str]) -> str:
    """A function that computes these numbers for a range of steps, one behind the other in a list."""
    head = "\n\ndef all_numbers(first, end):\n"
    if len(lines) == 1:  # a comprehension takes half the time
        return f"{head}    return [{lines[0].partition(' = ')[2]} for step in range(first, end)]\n"
    body = ["found = []", "for step in range(first, end):", *(f"    {line}" for line in lines)]
    body += [f"    found += {_tuple(names)}", "return found"]
    return head + "".join(f"    {line}\n" for line in body)


def _tuple(names: Sequence[str]) -> str:
    return ", ".join(names) + ("," if len(names) == 1 else "")


def emit_loop(
    *,
    rows: int,
    batch: int,
    sizes: Sequence[int],
    shuffled: bool,
    states: int,
    has_leaves: bool,
    seed: int | None,
    arrays: bool,
) -> str:
    """The generator `train`, which runs steps over batches.

    Args:
        rows: how many rows of data the loop is for.
        batch: the batch size.
        sizes: the sizes of batches that occur; there is a function `step_N` for each.
        shuffled: whether to shuffle the rows before each epoch.
        states: how many lists of state the optimiser has.
        has_leaves: whether steps read further leaves (frozen parameters).
        seed: the default seed of the shuffling.
        arrays: whether the steps work on arrays.
    """
    state = ", *state" if states else ""
    leaves = ", LEAVES" if has_leaves else ""
    result = f"loss, parameters{state}"
    tail = f"parameters{state}, *numbers(step){leaves}"
    yielded = "yield step, loss, parameters, state"
    body = [
        "def train(X, y, parameters=None, state=None, *, steps, seed=SEED, first=0):",
        '    """Train; after each step yield its number, its loss, the parameters and the optimiser\'s state.',
        "",
        f"    X, y: lists of {rows:,} rows, each a list of numbers",
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
    ]
    flat = "np.array({0}, dtype=float).ravel()" if arrays else "[number for row in {0} for number in row]"
    if batch >= rows and not shuffled:
        body += [
            f"    x_all = {flat.format('X')}",
            f"    y_all = {flat.format('y')}",
            f"    run = STEPS[{rows}]",
            "    for step in range(first, steps):",
            f"        {result} = run(x_all, y_all, {tail})",
            f"        {yielded}",
        ]
    else:
        taken = "{0}[batch].ravel()" if arrays else "[number for row in batch for number in {0}[row]]"
        body += [
            *(["    X, y = np.array(X, dtype=float), np.array(y, dtype=float)"] if arrays else []),
            f"    order = list(range({rows}))",
            *(["    shuffle = random.Random(seed).shuffle"] if shuffled else []),
            "    step = 0",
            "    while step < steps:",
            *(["        shuffle(order)"] if shuffled else []),
            f"        for start in range(0, {rows}, {batch}):",
            "            if step == steps:",
            "                return",
            "            if step >= first:",
            f"                batch = order[start:start + {batch}]",
            f"                x_batch = {taken.format('X')}",
            f"                y_batch = {taken.format('y')}",
            f"                {result} = STEPS[len(batch)](x_batch, y_batch, {tail})",
            f"                {yielded}",
            "            step += 1",
        ]
    head = [
        "#: A step for each size of batch.",
        f"STEPS = {{{', '.join(f'{n}: step_{n}' for n in sizes)}}}",
        f"SEED = {seed!r}",
    ]
    return "\n\n" + "\n".join(head) + "\n\n\n" + "\n".join(body) + "\n"
