"""Machine code: assembling, loading and calling it. The only place that knows llvmlite.

Machine code is made for the processor that it runs on. The variable FLATGRAD_CPU restricts it to what more processors
have: `x86-64`, `x86-64-v2`, `x86-64-v3` or `x86-64-v4`, a level of x86-64, or `generic`, what every processor of this
architecture has. In exact mode the bits are the same on all of them.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ...runtime.errors import MissingExtraError, OptionError
from ...runtime.forks import wait_for
from ...runtime.version import VERSION
from ..program.spelling import LIBRARY
from .builtin import LEAVES, Part, fits, new_builtin
from .builtin_code import ASSEMBLY
from .cache import ObjectCache
from .objects import supported
from .variants import DIGESTS, FUSED, variant_of

_lock = threading.RLock()
_T = TypeVar("_T")


def once(function: Callable[[], _T]) -> Callable[[], _T]:
    """Compute something once for all threads: those that come at the same time wait for the first one.

    With `functools.cache` each of them would compute it, and all but the last result would be forgotten. Code that is
    forgotten is unloaded, even if its address is in use.

    Example:
        >>> number = once(lambda: object())
        >>> number() is number()
        True
    """
    results: list[_T] = []

    @functools.wraps(function)
    def computed() -> _T:
        if not results:
            with _lock:
                if not results:
                    results.append(function())
        return results[0]

    return computed


class Recipe(NamedTuple):
    """How LLVM makes machine code; all of it is part of the key under which the code is cached.

    Attributes:
        level: of optimisation. With 3 it takes longer, and the code is no faster.
        relocation, model: how the code refers to addresses.
        passes: the function passes that run on the assembly, in order; None stands for LLVM's own pipeline.
        loops: whether that pipeline vectorises and interleaves loops.
        blocks: whether it vectorises straight-line code, which can take minutes.
    """

    level: int = 2
    relocation: str = "pic"
    model: str = "default"
    #: The passes that the assembly still needs. LLVM's own pipeline takes three times as long and gains a few per cent.
    passes: tuple[str, ...] | None = ("sroa", "instruction_combine", "new_gvn", "loop_rotate")
    #: Not for functions with the attribute "few-passes", which have several nests of loops: LLVM 22 aborts at an
    #: assertion in this pass for about every twentieth of them. Functions with "no-passes" are as short as can be.
    left_out: str = "new_gvn"
    loops: bool = False
    blocks: bool = False


_EXACT = Recipe()
_FAST = Recipe(passes=None, loops=True)


def recipe(fast: bool) -> Recipe:
    """How machine code is made in a mode."""
    return _FAST if fast else _EXACT


def _llvm_locks() -> list[Any]:
    """The locks under which LLVM runs, in the order in which they are taken: ours, then llvmlite's."""
    theirs = getattr(getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None), "_lock", None)
    return [_lock] if theirs is None else [_lock, theirs]


wait_for(_llvm_locks)


def available() -> bool:
    """Whether llvmlite is installed, and its library can be loaded."""
    try:
        require()
    except MissingExtraError:
        return False
    return True


def require() -> Any:
    """llvmlite's binding of LLVM.

    Raises:
        MissingExtraError: saying what to install, and what is wrong with what is installed.
    """
    try:
        import llvmlite.binding as llvm
    except (ImportError, OSError, RuntimeError) as error:
        reason = "" if isinstance(error, ModuleNotFoundError) else f" (what is installed cannot be loaded: {error})"
        raise MissingExtraError(
            f"backend='native' needs llvmlite; install it with: pip install llvmlite{reason} "
            "(or use backend='numpy' or 'python', which compute the same bits)"
        ) from None
    return llvm


#: The variable that restricts the processor.
_VARIABLE = "FLATGRAD_CPU"
#: The levels of x86-64, as its ABI defines them: what each adds to the one before, in LLVM's words.
_LEVELS = {
    "x86-64": ("cmov", "cx8", "fxsr", "mmx", "sse", "sse2"),
    "x86-64-v2": ("cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3"),
    "x86-64-v3": ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"),
    "x86-64-v4": ("avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"),
}


class Host:
    """The processor that machine code is made for, as LLVM sees it: this one, or what is asked of it.

    Args:
        level: a level of x86-64, or "generic"; empty for all that this processor has.

    Attributes:
        cpu, features: the processor's name and features.
        lanes: how many doubles fit into a vector.
        shortcuts: whether `exp`, and `pow` of some exponents, can be had without calling them: the processor multiplies
            and adds in one operation, and libm is glibc 2.28 or newer, whose errors are documented, and does so, too.
        vector_math: functions of `math` for whole vectors, by name and lanes: what they are called in libmvec, which
            belongs to glibc.
        variants: of functions of libm, by name, in which operations they are computed, if these are known and the
            processor has them.
        version: of llvmlite and LLVM.

    Raises:
        OptionError: if that is no level, or this processor does not have all of it.
    """

    def __init__(self, level: str = "") -> None:
        llvm = require()
        import llvmlite

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.triple: str = llvm.get_process_triple()
        features = llvm.get_host_cpu_features()
        self.cpu: str
        self.features: str
        if level:
            self.cpu = level  # LLVM knows what belongs to the name
            self.features = ""
            features = _restricted(level, features)
        else:
            self.cpu, self.features = llvm.get_host_cpu_name(), features.flatten()
        self.lanes = 8 if features.get("avx512f") else 4 if features.get("avx") else 2
        fused = (features.get("fma") and features.get("avx2")) or platform.machine() in ("aarch64", "arm64")
        variants = {name: variant_of(name) for name in DIGESTS}
        self.variants: dict[str, str] = {name: how for name, how in variants.items() if how and (fused or how != FUSED)}
        # What glibc calls depends on the processor's features, and these settings can hide some from it.
        fused = bool(fused) and "GLIBC_TUNABLES" not in os.environ
        library, version = platform.libc_ver()
        self.shortcuts: bool = fused and library == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 28)
        self.vector_math: dict[tuple[str, int], str] = {
            (name, lanes): symbol
            for lanes, feature, letter in _VECTOR_KINDS if features.get(feature)
            for name, operands in _VECTOR_MATH.items()
            if hasattr(_libmvec(), symbol := f"_ZGV{letter}N{lanes}{'v' * operands}_{name}")
        }  # fmt: skip
        self.version: str = f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"

    @property
    def identity(self) -> tuple[str, ...]:
        """All that machine code for this processor depends on, for keys."""
        choices = self.lanes, self.shortcuts, sorted(self.vector_math.items()), sorted(self.variants.items())
        return self.version, self.triple, self.cpu, self.features, repr(choices)

    def target_machine(self, how: Recipe = _EXACT) -> Any:
        """LLVM's description of this machine."""
        target = require().Target.from_triple(self.triple)
        return target.create_target_machine(
            cpu=self.cpu, features=self.features, opt=how.level, reloc=how.relocation, codemodel=how.model
        )


def _restricted(level: str, features: Mapping[str, bool]) -> dict[str, bool]:
    """The features of a level, if it is one that this processor has."""
    levels = list(_LEVELS) if platform.machine().lower() in ("x86_64", "amd64") else []
    if level not in (*levels, "generic"):
        choices = ", ".join(["generic", *levels])
        raise OptionError(
            f"{_VARIABLE} must be one of {choices}, or empty for all that this processor has; it is {level!r}"
        )
    count = 1 + levels.index(level) if level in levels else min(1, len(levels))
    level_features = [feature for name in levels[:count] for feature in _LEVELS[name]]
    missing = [feature for feature in level_features if not features.get(feature)]
    if missing:
        raise OptionError(
            f"{_VARIABLE} is {level!r}, but this processor has no {', '.join(missing)}; "
            "choose a lower level, or leave it empty for all that this processor has"
        )
    return dict.fromkeys(level_features, True)


def host() -> Host:
    """The processor that machine code is made for from now on: this one, or what FLATGRAD_CPU says.

    Raises:
        MissingExtraError: if llvmlite is not installed.
        OptionError: if FLATGRAD_CPU names no processor, or one that this one cannot stand in for.
    """
    with _lock:
        return _host(os.environ.get(_VARIABLE, "").strip())


_host = cache(Host)


def check_target() -> None:
    """Complain early about the variable that restricts the processor, if it is set.

    Raises:
        OptionError: if FLATGRAD_CPU names no processor, or one that this one cannot stand in for.
    """
    if os.environ.get(_VARIABLE) and available():
        host()


def assemble(assembly: str, *, fast: bool = False) -> bytes:
    """An object file from LLVM assembly.

    Args:
        assembly: a module without target.
        fast: let LLVM vectorise loops of its own accord (their sums are reassociated only where flags allow it).
    """
    with _lock:
        target, module = _optimised(assembly, fast)
        return bytes(target.emit_object(module))


def machine_text(assembly: str, *, fast: bool = False) -> str:
    """The processor's assembly language for LLVM assembly; arguments as for `assemble`."""
    with _lock:
        target, module = _optimised(assembly, fast)
        return str(target.emit_assembly(module))


def _optimised(assembly: str, fast: bool) -> tuple[Any, Any]:
    """The target machine, and the module behind all passes. Whoever calls this holds the lock."""
    llvm = require()
    machine, how = host(), recipe(fast)
    target = machine.target_machine(how)
    module = llvm.parse_assembly(assembly)
    # A module whose data layout is not the target machine's would abort the process.
    module.triple = machine.triple
    module.data_layout = str(target.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=how.level)
    options.loop_vectorization = options.loop_interleaving = how.loops
    options.slp_vectorization = how.blocks
    builder = llvm.create_pass_builder(target, options)
    if how.passes is None:
        builder.getModulePassManager().run(module, builder)
    else:
        managers = []
        for names in (how.passes, [name for name in how.passes if name != how.left_out]):
            managers.append(llvm.create_new_function_pass_manager())
            for name in names:
                getattr(managers[-1], f"add_{name}_pass")()
        for function in module.functions:
            attributes = b" ".join(function.attributes)
            if not function.is_declaration and b"no-passes" not in attributes:
                managers[b"few-passes" in attributes].run(function, builder)
    return target, module


@cache
def _libm() -> Any:
    if sys.platform == "win32":
        return ctypes.CDLL("ucrtbase")
    process = ctypes.CDLL(None)
    if hasattr(process, "expm1"):
        return process
    return ctypes.CDLL(ctypes.util.find_library("m"))  # pragma: no cover - libm is not part of the process


#: Lanes, what a processor must have for them, and the letter that says so in the names of libmvec (the vector function
#: ABI of x86-64).
_VECTOR_KINDS = (2, "sse2", "b"), (4, "avx2", "d"), (8, "avx512f", "e")
#: What libmvec may have, and how many arguments it takes.
_VECTOR_MATH = {**{row.name: row.arity for row in LIBRARY}, "pow": 2}


@cache
def _libmvec() -> Any:
    """The library of vector functions; None if there is none."""
    try:
        return ctypes.CDLL("libmvec.so.1")
    except OSError:
        return None


class LoadedCode:
    """Machine code that has been loaded into this process.

    Args:
        code: an object file, made for this machine.
        functions: the names of functions of libm and libmvec that it calls.
    """

    def __init__(self, code: bytes, functions: Iterable[str]) -> None:
        llvm = require()
        with _lock:
            for name in functions:
                library = _libmvec() if name.startswith("_ZGV") else _libm()
                pointer = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
                llvm.add_symbol(f"flatgrad_{name}", pointer)
            module = llvm.parse_assembly("")
            machine = host()
            target = machine.target_machine()
            module.triple, module.data_layout = machine.triple, str(target.target_data)
            self._engine = llvm.create_mcjit_compiler(module, target)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            self._engine.finalize_object()

    def address_of(self, name: str) -> int:
        """The address of a function of the code."""
        with _lock:
            return int(self._engine.get_function_address(name))


class Layout(NamedTuple):
    """What machine code works in: an array of numbers, one of truth values, and tables.

    Attributes:
        inputs: how many numbers come in, at the beginning of the numbers.
        numbers, truths: the sizes of the two arrays.
        constants, truth_constants: what the arrays must have: the numbers behind the inputs, the truth values behind
            as many places as inputs and constants are.
        tables: the schedule, then the gather tables, one behind the other.
        outputs: where there is room for the results among the numbers, one per output group: place and size; they are
            behind each other.
        functions: the names of functions of libm and libmvec that the code calls.
        extra: other places that have constants, with these.
        checkpoints: from how many checkpoints rounds are computed again; 0 if all rounds are kept.
    """

    inputs: int
    numbers: int
    truths: int
    constants: Any
    truth_constants: Any
    tables: Any
    outputs: list[tuple[int, int]]
    functions: list[str]
    extra: Sequence[tuple[int, float]] = ()
    checkpoints: int = 0

    @property
    def bytes(self) -> int:
        """The memory that a call works in; with the schedule, if that says which rounds are computed again."""
        return 8 * self.numbers + self.truths + (8 * int(self.tables[0]) if self.checkpoints else 0)


class Call(functools.partial[int]):
    """A function that runs code in one memory.

    Attributes:
        addresses: to which it gives each group of results; at first these are in the memory.
    """

    addresses: Any


class NativeFunction:
    """Loaded code with what it works in: one memory per `workspace()`.

    Args:
        code: an object file, made for this machine, or what has been loaded from one.
        layout: what it works in.
        release: whether calls take so long that they should release the interpreter lock.
        key: under which the object file is in the cache.
    """

    def __init__(self, code: bytes | LoadedCode, layout: Layout, *, release: bool, key: str = "") -> None:
        self.loaded: LoadedCode = LoadedCode(code, layout.functions) if isinstance(code, bytes) else code
        self.layout = layout
        self.release = release
        self.key = key
        self._tables = np.ascontiguousarray(layout.tables, dtype=np.int64)
        #: The memory of all builtins.
        self._shared: tuple[Any, Call] | None = None

    def workspace(self) -> tuple[Any, Call]:
        """Fresh memory, and a function that runs the code in it and returns whether there was a fault."""
        layout = self.layout
        memory = _aligned(layout.numbers)
        truths = np.zeros(layout.truths, dtype=bool)
        end = layout.inputs + len(layout.constants)
        memory[layout.inputs : end] = layout.constants
        for place, number in layout.extra:
            memory[place] = number
        truths[end : end + len(layout.truth_constants)] = layout.truth_constants
        kind = ctypes.CFUNCTYPE if self.release else ctypes.PYFUNCTYPE
        run = kind(ctypes.c_int, *[ctypes.c_void_p] * 4)(self.loaded.address_of("run"))
        results = np.array([memory.ctypes.data + 8 * place for place, _ in layout.outputs], dtype=np.int64)
        arrays = memory, truths, self._tables, results
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        run.held = self, arrays  # type: ignore[attr-defined]  # they live as long as the function does
        call = Call(run, *pointers)
        call.addresses = results
        return memory, call

    def builtin(
        self,
        arguments: Sequence[Part],
        result: Part,
        leaves: list[Any],
        **options: Any,
    ) -> Callable[..., Any] | None:
        """A builtin function that calls the code; all of them share one memory, since only one runs at a time.

        Args:
            arguments: what it takes, without the leaves.
            result: what it returns.
            leaves: the `Value`s whose numbers it reads.
            options: what is called instead, and its name; see `new_builtin`.

        Returns:
            The function; None where there can be none: on an interpreter that is laid out differently, for code that
            should release the interpreter lock, for structures that builtins do not know.
        """
        if self.release or not supported() or not fits(arguments, result):
            return None
        self._shared = self._shared or self.workspace()
        memory, run = self._shared
        parts = [*arguments, Part(LEAVES, (len(leaves),), constant=tuple(leaves))] if leaves else list(arguments)
        outputs = [memory.ctypes.data + 8 * start for start, _ in self.layout.outputs]
        addresses = [pointer.value or 0 for pointer in run.args[:3]]
        kind = "builtin" if options.get("calls") is None else "builtin_of_way"
        code, main = _builtin_code().address_of(kind), self.loaded.address_of("run")
        return new_builtin(code, main, addresses, parts, result, outputs, owners=run, **options)


def new_result(addresses: Any, group: int, size: int) -> Any:
    """A new array, to which the next call gives a group of its results."""
    result = np.empty(size)
    addresses[group] = result.ctypes.data
    return result


def _aligned(count: int) -> Any:
    """An array of doubles that begins at a cache line."""
    memory = np.zeros(count + 8)
    start = -(memory.ctypes.data // 8) % 8
    return memory[start : start + count]


def assemble_cached(assembly: str, *, fast: bool = False) -> tuple[str, bytes]:
    """`assemble`, with results kept on disk for other processes, and the key of what is kept."""
    key = ObjectCache.key(assembly, repr(recipe(fast)), VERSION, *host().identity)
    code = object_cache.get(key)
    if code is None:
        code = assemble(assembly, fast=fast)
        object_cache.put(key, code)
    return key, code


@once
def _builtin_code() -> LoadedCode:
    """The code of all builtins."""
    return LoadedCode(assemble_cached(ASSEMBLY)[1], ())


#: The cache for other processes.
object_cache: ObjectCache = ObjectCache()
