"""What users see of kernels for all sizes: the array program, Python and C with the sizes as arguments."""

import ctypes
import math
import shutil
import subprocess

import pytest

import flatgrad as fg
from flatgrad import InputError, OptionError, Value
from flatgrad.compiler.loops.extents import Samples
from flatgrad.compiler.loops.formulas import formula
from flatgrad.compiler.loops.merging import merged_text
from tests.bits import all_bits

CC = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
FLAGS = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def variance(x):
    mean = sum(x) / len(x)
    return sum((a - mean) ** 2 for a in x) * (1.0 / len(x))


def softmax(rows):
    loss = 0.0
    for row in rows:
        exponentials = [a.exp() for a in row]
        loss = loss + (exponentials[0] / sum(exponentials)).log()
    return -loss / len(rows)


def pairs(x):
    return sum((x[i] - x[j]) ** 2 for i in range(len(x)) for j in range(i))


def ramp(x):
    return sum(a * (k / len(x)) for k, a in enumerate(x))


def neighbours(x):
    return sum(x[k - 1] * x[k + 1] - x[k] for k in range(1, len(x) - 1)) / math.sqrt(len(x))


def outer(x, y):
    return sum(sum((a * b).tanh() for b in y) for a in x)


def numbers(count, seed=0):
    return [0.1 + (7 * k + 3 * seed) % 11 / 9.0 for k in range(count)]


def rows(count):
    return [numbers(3, k) for k in range(count)]


#: Functions, how their arguments are made for a size, and the sizes at which they are compared.
CASES = [
    (variance, lambda n: [numbers(n)], (1, 2, 7, 100)),
    (softmax, lambda n: [rows(n)], (1, 2, 7, 100)),
    (pairs, lambda n: [numbers(n)], (3, 7, 100)),
    (ramp, lambda n: [numbers(n)], (1, 2, 7, 100)),
    (neighbours, lambda n: [numbers(n)], (10, 100)),
]


def opened(function, *calls, **options):
    """The kernel for all sizes of a function that was called with some arguments."""
    transformed = fg.value_and_grad(function, dynamic=True, **options)
    for arguments in calls:
        transformed(*arguments)
    (kernel,) = transformed.open_kernels
    return kernel


def flat(arguments):
    return [number for item in arguments for number in (flat(item) if isinstance(item, list) else [item])]


def by_interpreter(function, arguments):
    """Value and gradients, flat, and the numbers of all arguments."""
    leaves = []

    def value(item):
        if isinstance(item, list):
            return [value(part) for part in item]
        leaves.append(Value(item))
        return leaves[-1]

    result = function(*map(value, arguments))
    result.backward()
    return [result.data, *(leaf.grad for leaf in leaves)]


def module(source):
    namespace = {}
    exec(compile(source, "saved.py", "exec"), namespace)
    return namespace


def library(source, folder):
    path = folder / "saved.c"
    path.write_text(source, encoding="utf-8")
    command = [CC, *FLAGS, "-shared", "-fPIC", "-o", str(folder / "saved.so"), str(path), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr[:4000]}\n{source}"
    return ctypes.CDLL(str(folder / "saved.so"))


def by_c(function, sizes, groups, counts):
    """What a function in C returns: the fault, and its results; those of one number are scalars."""
    arrays = [(ctypes.c_double * max(1, len(group)))(*group) for group in groups]
    results = [(ctypes.c_double * max(1, count))() for count in counts]
    fault = function(*sizes, *arrays, *results)
    return fault, [number for result, count in zip(results, counts, strict=True) for number in result[:count]]


@pytest.mark.parametrize(("function", "arguments", "sizes"), CASES, ids=[case[0].__name__ for case in CASES])
def test_python_has_the_bits_of_the_interpreter_at_every_size(function, arguments, sizes):
    kernel = opened(function, arguments(20), arguments(23))
    run = module(kernel.python_source())["value_and_grad"]
    for n in sizes:
        value, *gradients = run(n, *map(flat, arguments(n)))
        assert all_bits([value, *flat(gradients)]) == all_bits(by_interpreter(function, arguments(n))), n


@pytest.mark.skipif(CC is None, reason="there is no C compiler on this machine")
@pytest.mark.parametrize(("function", "arguments", "sizes"), CASES, ids=[case[0].__name__ for case in CASES])
def test_c_has_the_bits_of_the_interpreter_at_every_size(function, arguments, sizes, tmp_path):
    kernel = opened(function, arguments(20), arguments(23))
    run = library(kernel.c_source(), tmp_path).value_and_grad
    for n in sizes:
        groups = list(map(flat, arguments(n)))
        fault, results = by_c(run, [n], groups, [1, *map(len, groups)])
        assert fault == 0
        assert all_bits(results) == all_bits(by_interpreter(function, arguments(n))), n
    assert by_c(run, [0], [[0.0]], [1, 1])[0] == 2
    assert by_c(run, [2**31 - 1], [[0.0]], [1, 1])[0] == 2  # its arrays would not fit


def test_two_sizes_are_two_arguments(tmp_path):
    kernel = opened(outer, (numbers(6), numbers(9)), (numbers(8), numbers(5)), argnums=(0, 1))
    assert "def value_and_grad(n, m, x, y):" in kernel.source
    run = module(kernel.source)["value_and_grad"]
    compiled = library(kernel.c_source(), tmp_path).value_and_grad if CC else None
    for n, m in ((2, 1), (2, 7), (7, 2), (30, 4)):
        x, y = numbers(n), numbers(m, 5)
        expected = all_bits(by_interpreter(outer, (x, y)))
        value, *gradients = run(n, m, x, y)
        assert all_bits([value, *flat(gradients)]) == expected
        if compiled is not None:
            assert all_bits(by_c(compiled, [n, m], [x, y], [1, n, m])[1]) == expected


def test_the_text_of_a_kernel_for_all_sizes():
    kernel = opened(variance, (numbers(5),), (numbers(8),))
    assert str(kernel.arrays).startswith("array program variance(x[n]) for every n:\n")
    assert repr(kernel).startswith("<OpenKernel variance for every n: ")
    head, _, body = kernel.source.partition("def value_and_grad(n, x):\n")
    assert "# One function for every n.\n" in head
    lines = [line.strip() for line in body.splitlines()]
    assert lines[:9] == [
        '"""Return the value and its gradients.',
        "",
        "n: a whole number, 1 or more",
        "x: a list of n numbers",
        "returns: value, x_bar (a list of n numbers)",
        '"""',
        "if n < 1:",
        'raise ValueError("n must be 1 or more")',
        "k1 = 1.0 / n",
    ]
    assert "k1" in lines[-1] or "k1" in body
    stages = str(kernel.stages)
    assert "# traced, n = " in stages
    assert "# for every n: value_and_grad\narray program variance(x[n]) for every n:" in stages


def test_c_says_what_it_needs():
    source = opened(variance, (numbers(5),), (numbers(8),)).c_source()
    assert "//     enum { n = 100 };  // for example\n//     static double x[n], value, x_bar[n];\n" in source
    assert "int value_and_grad(int n, const double *x, double *value, double *x_bar)\n" in source
    assert "    const double k1 = 1.0 / (double)n;\n" in source
    assert "It returns 2 where a size is too small, or there is not enough memory for these sizes." in source


@pytest.mark.skipif(CC is None, reason="there is no C compiler on this machine")
def test_the_usage_in_a_c_file_is_a_program(tmp_path):
    source = opened(variance, (numbers(5),), (numbers(8),)).c_source()
    (tmp_path / "saved.c").write_text(source, encoding="utf-8")
    usage = [line[7:] for line in source.splitlines() if line.startswith("//     ")]
    text = "\n".join(['#include <stdio.h>\n#include "saved.c"\nint main(void) {', *usage, "return fault; }\n"])
    (tmp_path / "main.c").write_text(text, encoding="utf-8")
    subprocess.run([CC, "-std=c99", "-o", str(tmp_path / "main"), str(tmp_path / "main.c"), "-lm"], check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert done.stdout == "0 0\n"


def test_kernels_are_written_with_their_leaves(tmp_path):
    w, b = Value(0.5), Value(-0.25)

    def loss(x, y):
        return sum((w * a + b - c) ** 2 for a, c in zip(x, y, strict=True)) / len(x)

    kernel = opened(loss, (numbers(4), numbers(4, 1)), (numbers(7), numbers(7, 1)), wrt=[w, b])
    w.data = 0.75
    saved = module(kernel.save(tmp_path / "loss.py").read_text(encoding="utf-8"))
    assert saved["LEAVES"] == [0.75, -0.25]
    assert saved["LEAF_NAMES"] == ["w", "b"]
    x, y = numbers(3), numbers(3, 1)
    value, gradients = saved["value_and_grad"](3, x, y, saved["LEAVES"])
    result = loss(x, y)
    result.backward()
    assert all_bits([value, *gradients]) == all_bits([result.data, w.grad, b.grad])
    assert "const double LEAVES[2] = {\n    0.75,  // w = 0.75\n" in kernel.save(tmp_path / "loss.c").read_text()


def test_functions_of_two_parts_have_both():
    f = fg.compile(lambda x, w: sum(a * w for a in x) / len(x), dynamic=True)
    f(numbers(5), Value(0.5))
    (kernel,) = f.open_kernels
    functions = module(kernel.source)
    outputs, residuals = functions["forward"](3, [1.0, 2.0, 6.0], 0.5)
    assert outputs == [4.5 / 3]
    assert functions["backward"](3, residuals, [1.0]) == [3.0]


def test_bind_gives_the_array_program_at_a_size():
    kernel = opened(variance, (numbers(5),), (numbers(8),))
    assert all_bits(kernel.bind(3).evaluate(numbers(3))) == all_bits(by_interpreter(variance, [numbers(3)]))
    with pytest.raises(InputError, match=r"bind expects n, 1 or more each, and got \[0\]"):
        kernel.bind(0)
    with pytest.raises(InputError, match=r"bind expects n, 1 or more each, and got \[1, 2\]"):
        kernel.bind(1, 2)


def test_kernels_are_neither_saved_under_other_suffixes_nor_pickled(tmp_path):
    import pickle

    kernel = opened(variance, (numbers(5),), (numbers(8),))
    with pytest.raises(OptionError, match=r"the suffix must be \.py or \.c"):
        kernel.save(tmp_path / "kernel.txt")
    with pytest.raises(InputError, match="cannot be pickled"):
        pickle.dumps(kernel)


def test_a_size_that_has_a_kernel_of_its_own_is_refused():
    kernel = opened(pairs, (numbers(5),), (numbers(8),))
    assert "n: a whole number, 3 or more" in kernel.source
    with pytest.raises(ValueError, match="n must be 3 or more"):
        module(kernel.source)["value_and_grad"](2, [1.0, 2.0])
    with pytest.raises(InputError, match="there is another program for n = 2, where a loop would be empty"):
        kernel.bind(2)


def test_merged_numbers_bind_as_strongly_as_their_surroundings_want():
    samples = Samples([(11,), (13,), (17,), (19,)])

    def merged(text, divided="//"):
        return merged_text([eval(f"f{text!r}", {"n": n}) for (n,) in samples.sizes], samples, ["n"], divided)

    assert merged("x[{n - 1} - i]") == "x[n - 1 - i]"
    assert merged("x[i - {n - 1}]") == "x[i - (n - 1)]"
    assert merged("{n - 1}*i + {2 * n}*j") == "(n - 1)*i + 2*n*j"
    assert merged("i/{2 * n}") == "i/(2*n)"
    assert merged("range({n * (n - 1) // 2})", "/") == "range(n*(n - 1)/2)"
    assert merged("3*{n * (n - 1) // 2}") == "3*(n*(n - 1)//2)"
    assert merged("x{n}") is None  # a digit of a name


def test_formulas_bind_as_they_should():
    samples = Samples([(4,), (5,), (6,), (7,)])
    assert formula([(-2.0) ** n for (n,) in samples.sizes], samples) is None  # it has no root to find the factor by
    tenth = formula([0.9**n for (n,) in samples.sizes], samples)
    assert tenth.text(["n"]) == "0.9**n"
