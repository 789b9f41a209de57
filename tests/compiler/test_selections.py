"""Branches that only select a number are no ways: one kernel, with the bits of the interpreter."""

from __future__ import annotations

import collections
import itertools
import linecache
import math
import random
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.program.adjoint import adjoint
from flatgrad.compiler.program.selections import chosen, without_selections
from tests.examples import crossed, examples

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, math.inf, -math.inf, math.nan, 5e-324, 1e308]


def relu(x):
    return x if x > 0 else 0.0


def leaky(x):
    if x > 0:
        return x
    return 0.01 * x


def absolute(x):
    return -x if x < 0 else x


def clipped(x):
    if x < -1.0:
        x = -1.0
    if x > 1.0:
        x = 1.0
    return x


def bounded(x):
    if x < -1.0:
        return -1.0
    elif x > 1.0:  # noqa: RET505
        return 1.0
    else:
        return x


def inside(x):
    return x * 2.0 if x > -1.0 and not x > 1.0 else x


def hinge(x, y):
    return sum([max(0.0, 1.0 - each) for each in (x, y, x * y)]) / 3


def extremes(x, y):
    return max(x, y) * min(x, y * 2.0) + max([x, y, 0.5])


def running(x, y):
    best = x
    for each in (y, x * 0.5, y * y):
        if each > best:
            best = each
    return best * best


def softmax(x, y):
    most = max([x, y])
    exponentials = [fg.exp(each - most) for each in (x, y)]
    return exponentials[0] / sum(exponentials)


def summed(x, y):
    total = x * 0.5
    for k in range(3):
        if x > k:
            total += x * y
        elif y > k:
            total -= y
    return total


def deep(x, y):
    values = [x, y]
    for k in range(3):
        rows = [[math.sin(k + 3 * i + 7 * j) for j in range(len(values))] for i in range(4)]
        values = [relu(sum((w * v for w, v in zip(row, values, strict=True)), 0.1)) for row in rows]
    return sum(values)


def shared(x, y):
    h = relu(x * y)
    return h * x + h * y + h * h


def ordered(x, y):
    if x > y:
        x, y = y, x
    return x * x - y


def best(x, y):
    most, squared, total = x, x * x, 0.0
    for each in (y, x * 0.5, y * y):
        if each > most:
            step = each - most
            most, squared = each, each * each
            total += step * step
        elif each < 0:
            total -= step if (step := each * 0.5) < -1 else 0.5
    return most * squared + total


def skipped(x, y):
    total = 0.0
    for each in (x, y, x * y):
        if each <= 0.5:
            continue
        over = each - 0.5
        total += over * over
    return total + x * 0.0


def early(x):
    if x < 0.0:
        opposite = -x
        return opposite * 2.0
    square = x * x
    if square > 4.0:
        return square + 1.0
    return square


def sorted_in_place(x, y):
    items = [x, y, x * y, 0.5]
    for end in range(len(items) - 1, 0, -1):
        for k in range(end):
            if items[k] > items[k + 1]:
                items[k], items[k + 1] = items[k + 1], items[k]
    return items[0] + 2.0 * items[1] - items[-1] * 3.0


def stored(x, y):
    items = [x, y]
    if x > y:
        items[0] = y * 2.0
    else:
        items[0] = x * 3.0
    if y > 0:
        items[1] += x
    return items[0] * items[1]


def pairs(x, y):
    low, high = (x, y) if x < y else (y, x)
    return high - low * low


def nested(x, y):
    u, v = 0.0, y
    if x > 0:
        u = x * y
        if y > 1:
            v, w = u, y * 3.0
            u = w - v
    else:
        v = x - y
    return u * v + u


def bisection(x):
    target = x * x + 1.0
    low, high = 0.0, 4.0
    for _ in range(12):
        middle = 0.5 * (low + high)
        if (middle**3 - target) * (low**3 - target) > 0:
            low = middle
        else:
            high = middle
    return middle - (middle * middle * middle - target) / (3.0 * middle * middle)


def negative(x):
    return -max(x, 0.0) + (2.0 / max(x, 49.0))


SHAPES = [
    relu, leaky, absolute, clipped, bounded, inside, hinge, extremes, running, softmax, summed, deep, shared, ordered,
    skipped, early, sorted_in_place, stored, pairs, nested, bisection, negative,
]  # fmt: skip


def interpreted(function, numbers):
    leaves = [Value(float(n)) for n in numbers]
    value = function(*leaves)
    if not isinstance(value, Value):
        return float(value), (0.0,) * len(leaves)
    value.backward()
    return value.data, tuple(leaf.grad for leaf in leaves)


def outcome(call):
    """What a call returns, by its bits, or the built-in class of what it raises."""
    try:
        return repr(call())
    except (ArithmeticError, ValueError) as error:
        return next(each.__name__ for each in type(error).__mro__ if each.__module__ == "builtins")


def compiled(function, **options):
    return fg.value_and_grad(function, argnums=tuple(range(function.__code__.co_argcount)), **options)


def numbers_for(function, count, seed=0):
    draw = random.Random(seed)
    arguments = function.__code__.co_argcount
    some = [
        [draw.choice(SPECIAL) if draw.random() < 0.4 else draw.uniform(-3, 3) for _ in range(arguments)]
        for _ in range(count)
    ]
    return [*some, *map(list, itertools.islice(itertools.product(SPECIAL, repeat=arguments), 12))]


@pytest.mark.parametrize(("function", "backend"), crossed(SHAPES, ["python", "numpy", "native"]))
def test_one_kernel_has_the_bits_of_every_way(function, backend):
    f = compiled(function, backend=backend)
    for numbers in [[0.5] * function.__code__.co_argcount, *numbers_for(function, 40)]:
        assert outcome(lambda: f(*numbers)) == outcome(lambda: interpreted(function, numbers)), numbers
    if function is not deep or sys.version_info < (3, 12):  # later the builtin `sum` of floats is no chain of additions
        assert len(f.kernels) == 1
        assert f.kernels[0].way.truths == ()


def of_a_graph(function, numbers, output=None):
    leaves = [Value(float(n)) for n in numbers]
    value = function(*leaves)
    if output is not None:
        value = value[output] if output < 2 else value[0] * 2.0 + value[1]
    if not isinstance(value, Value):
        return float(value), (0.0,) * len(leaves)
    value.backward()
    return value.data, tuple(leaf.grad for leaf in leaves)


def infinite(x, y):
    side = x * (x * 1e308 * 1e10)
    return side if x < 0 else x * y


@pytest.mark.parametrize(("function", "backend"), crossed([*SHAPES, infinite], ["python", "native"]))
def test_graphs_that_are_compiled_select(function, backend):
    f = fg.compile(function, backend=backend)
    for numbers in [[0.5] * function.__code__.co_argcount, *numbers_for(function, 30)]:
        assert outcome(lambda: of_a_graph(f, numbers)) == outcome(lambda: of_a_graph(function, numbers)), numbers
    if function is not deep or sys.version_info < (3, 12):
        assert len(f.kernels) == 1


def counted(x, y):
    n = 0
    for e in (x, y, x * y):
        if e > 0:
            n += 1
    if n == 0:
        return x
    if n == 2:
        return x * y * n
    return x * n / (n + 1) + n * y - (-n) * 0.5


def place(x, y):
    k = 0
    if x > y:
        k = 2
    elif y > 1:
        k = 1
    return [x, y, x * y][k] * (k + 1) + sum(x for _ in range(k)) + y * (k % 2)


def doubled(x, y):
    n = 1
    for e in (x, y):
        n = n * 2 if e > 0.5 else n
    return x / n + y**n + (0.1 * n) * x + n / 10 * y + x


def no_minus_zero(x, y):
    n = 3 if x > 0 else 0
    m = -n
    return x * m + y + (m if y > 0 else 1) * 0.5


def kept(x, y):
    n = 3 if x > 0 else 0
    return y * n + (x if isinstance(n, int) else y) + {0: x, 3: y}[n]


def truth(x, y):
    n = 0
    if x > 0:
        n = 5
    if not n:
        return x * y
    return y * n if n == 5 and n != 4 else y


def integers(x, y):
    a, b = (1, 2) if x > y else (2, 1)
    return x * a - y * b + (a - b) * x * y + a // b + (a / b)


@pytest.mark.parametrize("function", [counted, place, doubled, no_minus_zero, kept, truth, integers])
def test_ints_that_are_selected(function):
    f, g = compiled(function), fg.compile(function)
    for numbers in numbers_for(function, 30):
        expected = outcome(lambda: interpreted(function, numbers))
        assert outcome(lambda: f(*numbers)) == expected, numbers
        assert outcome(lambda: of_a_graph(g, numbers)) == expected, numbers
    assert len(f.kernels) <= 6


def test_a_mean_of_what_is_selected_is_one_kernel():
    def f(xs, limit):
        total, count = 0.0, 0
        for x in xs:
            if x > limit:
                total += x * x
                count += 1
        return total / count

    g = fg.value_and_grad(f, argnums=1)
    for xs in itertools.product([1.0, -2.0, 3.0], repeat=3):
        assert outcome(lambda: g(list(xs), 0.0)) == outcome(lambda: (f([Value(x) for x in xs], 0.0).data, 0.0))
    assert len(g.kernels) == 1


def test_rows_of_a_network_of_two_layers_come_in_order():
    def f(p):
        total = 0.0
        for x, target in ((0.5, 1.0), (-1.25, -1.0), (0.75, -1.0)):
            hidden = [relu(p[2 * k] * x + p[2 * k + 1]) for k in range(2)]
            hidden = [relu(p[4 + 2 * j] * hidden[0] + p[5 + 2 * j] * hidden[1]) for j in range(2)]
            error = 1.0 - target * (p[8] * hidden[0] + p[9] * hidden[1])
            if error > 0:
                total += error * error
        return total * 0.25 + p[1] * 1e-3

    draw, g = random.Random(5), fg.value_and_grad(f)
    for _ in range(40):
        p = [draw.gauss(0.0, 1.0) for _ in range(10)]
        leaves = [Value(number) for number in p]
        value = f(leaves)
        value.backward()
        assert g(p) == (value.data, [leaf.grad for leaf in leaves])
    assert len(g.kernels) == 1


def test_some_of_several_outputs_receive_a_gradient():
    def one(x, y):
        h = leaky(x)
        return h * y, max(h, y) * x

    def other(x, y):
        p = x * y
        a, b, c = p * 3.0, p * 0.1, p * 1e16
        s = a if x > 0 else b
        return s * s + c, s + b + c + a

    for function in (one, other):
        f = fg.compile(function)
        for numbers in numbers_for(function, 20):
            for output in (0, 1, 2):
                expected = outcome(lambda: of_a_graph(function, numbers, output))
                assert outcome(lambda: of_a_graph(f, numbers, output)) == expected, (numbers, output)


def test_values_alone_and_rows_select():
    f = fg.jit(relu)
    assert [f(x) for x in (2.0, -1.0, 0.0)] == [2.0, 0.0, 0.0]
    assert len(f.kernels) == 1
    assert fg.vmap(leaky)([2.0, -1.0, 3.0]).tolist() == [2.0, -0.01, 3.0]
    g = fg.value_and_grad(lambda w, xs: sum(fg.vmap(lambda w, x: w * x if x > 0 else 0.0, in_axes=(None, 0))(w, xs)))
    assert [g(2.0, xs) for xs in ([1.0, -1.0, 2.0], [-1.0, 1.0, -2.0])] == [(6.0, 3.0), (2.0, 1.0)]
    assert len(g.kernels) == 1


def test_gradients_of_faults_as_inf_and_nan():
    f = fg.value_and_grad(lambda x: relu(fg.log(x)) * x, faults="ieee")
    for x in (0.5, 3.0, 0.0, math.inf):
        assert f(x)[0] == (math.log(x) * x if x > 1 else 0.0)
    assert f(0.0) == (0.0, 0.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: max(min(x, 5.0), 0.0) / 3.0,  # 5 / 3 is not 5 * (1 / 3)
        lambda x: 3.0 / max(x, 49.0),
        lambda x: fg.sqrt(x if x > 0 else 0.0),  # the square root has no finite slope at the number 0.0
        lambda x: x * fg.log(x) if x > 0 else 0.0,
        lambda x: x ** (x if x > 2 else 2.0),
        lambda x: x * sum([1, 2, 3][: (2 if x > 0 else 1)]),  # a place
        lambda x: -max(x, 0),  # an int has no -0
    ],
)
def test_what_is_no_selection_stays_a_way(function):
    f = fg.value_and_grad(function)
    for x in (7.0, 3.0, -2.0, 0.0, 60.0, 1.0):
        value, (gradient,) = interpreted(function, [x])
        assert f(x) == (value, gradient)
    assert len(f.kernels) > 1


def test_what_is_no_selection_leaves_the_others():
    def f(x, y):
        total = 0.0
        for each in (x, y, x - y, x + y, x * 2.0, y * 2.0):
            total += each if each > 0 else 0.5
        return total + x * (max(min(y, 5.0), 0.0) / 3.0)

    g = compiled(f)
    for numbers in numbers_for(f, 60):
        assert outcome(lambda: g(*numbers)) == outcome(lambda: interpreted(f, numbers)), numbers
    assert 1 < len(g.kernels) < 8


def test_a_branch_that_does_more_is_no_selection():
    noted = []

    def f(x, items):
        count = 0
        for each in items:
            if each > x:
                count += 1
        table = {0: x}
        if x > 0:
            noted.append(1)
            y = x * 2.0
        else:
            y = x
        if x > 1:
            table[1] = y
        return y * count + sum(table.values()) * 0.5

    g = fg.value_and_grad(f)
    for x in (2.0, -1.0, 0.5, 3.0, math.nan):
        leaf = Value(x)
        value = f(leaf, [0.0, 1.0, 2.5])
        value.backward()
        assert outcome(lambda: g(x, [0.0, 1.0, 2.5])) == repr((value.data, leaf.grad))
    assert len(noted) > 1


def test_a_name_without_a_value_on_one_side():
    def f(x, y):
        if x > 0:
            z = y * y
        if y > 0:
            x = x * y
        if x > 1:
            return x * z
        return x

    g = compiled(f)
    for numbers in numbers_for(f, 30):
        assert outcome(lambda: g(*numbers)) == outcome(lambda: interpreted(f, numbers)), numbers


def test_the_order_of_additions_is_that_of_each_way():
    def f(x, y):
        p = x * y
        a, b, c = p * 3.0, p * 0.1, p * 1e16
        return (a if x > 0 else 0.0) * 1.0 + b + c + a

    def g(x, y):
        return max(x, y) * x + max(x, y) * (x * 1e16) + x * 0.1 + max(x, y) * -1e16

    for function in (f, g):
        h = compiled(function)
        for numbers in numbers_for(function, 60):
            assert outcome(lambda: h(*numbers)) == outcome(lambda: interpreted(function, numbers)), numbers


def test_a_selection_is_the_operand_and_no_node_between():
    """The joint program of the selection, and those of the two ways, at numbers of both."""
    f = compiled(shared)
    program = f.kernel_for(1.0, 2.0).stages.traced
    joint = without_selections(adjoint(program, [0, 1]))
    for numbers in ([1.0, 2.0], [1.0, -2.0], [-0.3, -0.7]):
        way = adjoint(chosen(program, numbers), [0, 1])
        assert joint.evaluate(numbers) == way.evaluate(numbers)


def test_functions_have_their_own_code_afterwards():
    code = relu.__code__
    f = compiled(hinge)
    assert f(0.5, 0.25)[0] == interpreted(hinge, [0.5, 0.25])[0]
    compiled(relu)(1.0)
    assert relu.__code__ is code
    kernel = f.kernel_for(0.5, 0.25)
    assert f.kernel_for(3.0, -1.0) is kernel


def test_lists_that_grow_in_branches_stay_as_they_are():
    def f(x):
        items = [x]
        other = items
        if x > 0:
            items += [x * 2.0]
        return sum(other)

    g = fg.value_and_grad(f)
    assert (g(1.0), g(-1.0), g(2.0)) == ((3.0, 3.0), (-1.0, 1.0), (6.0, 3.0))


def several(a, b, c, x, y, z):
    v0 = max(y, 0.0)
    if c < z:
        return v0 - -3
    v2 = absolute(a - 2.0 * z)
    v3 = relu(y) * y
    ys = [each if each > b else a / 3.0 for each in (x, y, z)]
    v4 = ys[0] * ys[1] + ys[1]
    v5 = x
    if v4 <= 1.0 and v4 > -0.0:
        v5 = z
    return a + b + v5 * v3 + v5 + v2 * 0.0 + a * 0.5


def test_kernels_that_have_other_guards_in_the_same_places_are_tried_once_per_call():
    f = compiled(several)
    calls = [(math.inf, 2.0, -0.0, 0.0, 1.27, 0.0), (2.58, 0.0, -1.89, -1.66, 2.0, 2.0)]
    for numbers in (*calls, (-0.76, -0.82, 2.53, 2.71, -0.1, 0.95), *calls):
        assert outcome(lambda: f(*numbers)) == outcome(lambda: interpreted(several, numbers))


_HEAD = """
import flatgrad as fg
def relu(x):
    return x if x > 0 else 0.0
def clip(x):
    if x < -1.0:
        x = -1.0
    if x > 1.0:
        x = 1.0
    return x
def f(a, b, c):
"""


@st.composite
def sources(draw):
    """A function of selections that share operands, and are used again and again."""
    names = ["a", "b", "c"]
    name = lambda: draw(st.sampled_from(names))  # noqa: E731
    number = lambda: draw(st.sampled_from(["0.0", "1.0", "0.01", "-1.0", "2.0", "-0.0", "3.0", "0"]))  # noqa: E731
    test = lambda: f"{name()} {draw(st.sampled_from('<>'))} {draw(st.sampled_from([name(), number()]))}"  # noqa: E731

    def side():
        forms = [name(), name(), number(), f"{number()} * {name()}", f"-{name()}", f"{name()} * {name()}"]
        return draw(st.sampled_from(forms))

    lines = []
    for k in range(draw(st.integers(2, 6))):
        n = f"v{k}"
        forms = [
            [f"{n} = {name()} * {name()}"],
            [f"{n} = {name()} - {number()} * {name()}"],
            [f"{n} = clip({name()} / 3.0)"],
            [f"{n} = relu({name()}) * {name()}"],
            [f"{n} = {side()} if {test()} else {side()}"],
            [f"{n} = {name()}", f"if {test()}:", f"    {n} = {side()}"],
            [f"{n} = {name()}", f"if {test()}:", f"    {n} += {name()}", f"elif {test()}:", f"    {n} = {side()}"],
            [f"{n} = max({name()}, {side()})"],
            [f"{n} = min([{name()}, {name()}, {name()}])"],
            [f"{n} = sorted([{name()}, {name()}, {name()}])[1]"],
            [f"{n}, {n}_ = {name()}, {name()}", f"if {test()}:", f"    {n}, {n}_ = {n}_, {n}", f"{n} = {n} * {n}_"],
            [f"{n} = {name()}", f"for k in ({name()}, {name()}):", f"    if k < {n}:", "        continue",
             f"    {n} = k"],
            [f"{n} = 0.0", f"if {test()}:", f"    t = {side()}", f"    {n} += t * {name()}", "    if t > 1.0:",
             f"        {n} -= t", "else:", f"    {n}, a = {name()}, {side()}"],
            [f"t = [{name()}, {name()}, {name()}]", f"if {test()}:", f"    t[0], t[1] = t[1], t[0] * {number()}",
             f"{n} = t[0] - t[1]"],
            [f"{n}, t = ({name()}, {side()}) if {test()} else ({side()}, {name()})", f"{n} = {n} - t"],
        ]  # fmt: skip
        lines += draw(st.sampled_from(forms))
        names.append(n)
    terms = [f"{name()} * {name()}" for _ in range(draw(st.integers(1, 3)))]
    lines.append(f"return {' + '.join(terms)} + {names[-1]} + a * 0.5")
    return _HEAD + "".join(f"    {line}\n" for line in lines)


@settings(max_examples=examples(20), deadline=None)
@given(sources(), st.integers(0, 10**6), st.sampled_from(["python", "python", "numpy", "native"]))
def test_random_functions_have_the_bits_of_the_interpreter(source, seed, backend):
    name = f"<selections {hash(source)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space = {}
    exec(compile(source, name, "exec"), space)
    function = space["f"]
    f = compiled(function, backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for numbers in numbers_for(function, 12, seed)[:15]:
            assert outcome(lambda: f(*numbers)) == outcome(lambda: interpreted(function, numbers)), (source, numbers)


def cleaned_up(x):
    left = []

    def inner():
        y = 1.0
        try:
            if x > 0:
                y = 5.0
                return x
            return -x
        finally:
            left.append(y)

    return inner() * left[0]


def called_later(x):
    calls = []

    def inner():
        y = 1.0
        calls.append(lambda: y)
        if x > 0:
            y = x
            return y * 2.0
        return x * 3.0

    return inner() * calls[0]()


@pytest.mark.parametrize("function", [cleaned_up, called_later])
def test_names_that_are_read_after_a_function_has_returned(function):
    f = compiled(function)
    for x in (2.0, -1.5, 0.5, 0.0):
        assert outcome(lambda: f(x)) == outcome(lambda: interpreted(function, [x])), x


class Gate:
    def shifted(self, x):
        if x > 1.0:
            y = x - 1.0
            return y * 2.0
        y = x + 1.0
        return y * 1.0

    def calls(self, x):
        return self.shifted(x)


def test_a_method_with_variables_selects():
    f = fg.value_and_grad(Gate().calls)
    assert (f(3.0), f(0.5), len(f.kernels)) == ((4.0, 2.0), (1.5, 1.0), 1)


def whole_or_not(x):
    k = 1
    if x > 0:
        k = 2.0
    return x * 3.0 if type(k) is int else x * x


def by_another_function(x):
    k = 1
    if x > 0:
        k = 2
    return tripled_if_int(k, x) + tripled_if_int(k + 1, x)


def tripled_if_int(k, x):
    return x * 3.0 if isinstance(k, int) else x * x


def has_a_gradient(x):
    k = 1.0
    if x > 0:
        k = x
    return x * 3.0 if isinstance(k, Value) else x * x


def by_attribute(x):
    k = max(x, 0)
    return x * 3.0 if hasattr(k, "bit_length") or k.__class__ is int else x * x


def matched(x):
    k = 1
    if x > 0:
        k = 2.0
    match k:
        case int():
            return x * 3.0
        case float():
            return x * 5.0
        case _:
            return x * x


def in_a_try(x):
    k = 1
    if x > 0:
        k = 2
    try:
        return x * 3.0 if isinstance(k, int) and k > 1 else x * x
    except Exception:
        return x * 100.0


@pytest.mark.parametrize(
    "function", [whole_or_not, by_another_function, has_a_gradient, by_attribute, matched, in_a_try]
)
def test_a_class_that_is_asked_for_is_that_of_the_side(function):
    f = compiled(function)
    for x in (2.0, -1.5, 0.5, 0.0):
        assert outcome(lambda: f(x)) == outcome(lambda: interpreted(function, [x])), x
    assert len(f.kernels) == 2


def test_other_selections_stay_where_a_class_is_asked_for():
    def f(x, y):
        k = 1 if x > 0 else 2.0
        return tripled_if_int(k, x) + (y if y > 0 else 0.1 * y)

    g = fg.value_and_grad(f, argnums=(0, 1))
    for numbers in itertools.product([2.0, -1.5, 0.5, -3.0], repeat=2):
        assert outcome(lambda: g(*numbers)) == outcome(lambda: interpreted(f, numbers)), numbers
    assert len(g.kernels) == 2


class Counting(list):
    changes = 0

    def __setitem__(self, place, item):
        self.changes += 1
        super().__setitem__(place, item)


def counts_changes(x):
    v = Counting([x, 1.0])
    if x > 0:
        v[0] = x * 2.0
    return v[0] + v.changes


def makes_items(x):
    d = collections.defaultdict(float)
    y = d[0] if x > 0 else 0.5
    if x > 2:
        y += d[1]
    return x * len(d) + y


@pytest.mark.parametrize("function", [counts_changes, makes_items])
def test_items_of_other_containers_are_read_and_changed_on_their_side_only(function):
    f = compiled(function)
    for x in (1.0, -1.5, 3.0, 0.0):
        assert outcome(lambda: f(x)) == outcome(lambda: interpreted(function, [x])), x


def test_an_error_of_the_other_side_is_not_caught():
    def f(x):
        v = [x, 2.0]
        z = x if x > 0 else 0.0
        try:
            y = v[5] if x > 0 else v[0]
        except IndexError:
            y = x * 9.0
        return y + z

    g = compiled(f)
    for x in (1.0, -1.5, 0.0):
        assert outcome(lambda: g(x)) == outcome(lambda: interpreted(f, [x])), x
