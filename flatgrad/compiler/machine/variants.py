"""How the libm that CPython calls computes functions: the same source has other bits if products are contracted.

glibc's `tanh` and `log1p` are those of FDLIBM, unless it is so new that they are correctly rounded. Compiled for
processors that multiply and add in one operation, they have other bits at some 0.05 % of all arguments.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from functools import cache
from typing import Any

import numpy as np

from .libm import INNER, LOG_2, LOG_2_REST, ONE, REDUCED

#: The variants of a function: compiled without contraction of products into sums, and with it.
SEPARATE, FUSED = "separate", "fused"
#: The variants by the digests of their results.
DIGESTS = {
    "tanh": {
        SEPARATE: "ad15351e61504f82d808c651d0e7b793b9d4544bc6f3d94767b4ed8fb7467445",
        FUSED: "3993b2c3982d118e58eb972e05baee9dcd5bf5f1c4ad1cef77ce18dad00bf900",
    },
    "log1p": {
        SEPARATE: "27c2ce8472d7f472458963b607b4049cddb08cab1e4a605a5fe658f7ebaf2e12",
        FUSED: "cc57ae2599e7d4ff2f622f293d7fe6d81e77e5882c0e435064ca60f8b731767a",
    },
}
#: Arguments, times 2**26, at which the contraction of a single product, or Horner's order, changes the result.
SENSITIVE: dict[str, tuple[int, ...]] = {
    "tanh": (
        269540, 347791, 528347, 831223, 860181, 863992, 969913, 975139, 980903, 1000165, 1455104, 1526024, 1543576,
        1557633, 1696614, 1743663, 1861813, 1918603, 1938051, 2187040, 2377536, 2452129, 2568552, 2651389, 3272704,
        5169152, 5324800, 5529600, 6380978, 6382607, 6385787, 6385933, 6386903, 6388307, 6389368, 6395347, 6395768,
        6395852, 6397108, 6400033, 6402392, 6402482, 6404287, 6620160, 6685696, 6716416, 6916096, 7065600, 7435264,
        10046720, 10046935, 10046962, 10048448, 10083403, 10084096, 10084340, 10084917, 10677248, 10971136, 11372544,
        12085248, 13479936, 14810304, 14810504, 14812661, 14873600, 15150904, 15162725, 15167139, 15539200, 18313216,
        31177728, 32592896, 34899968, 35497984, 36139008, 79629312, 82042880,
    ),
    "log1p": (
        -62553225, -62432045, -62289780, -61580081, -61334472, -61317918, -60980837, -60979835, -60583181, -59617323,
        -59615550, -57561783, -56586744, -56581458, -56544032, -55568952, -44594615, -42847527, -19300652, -18933318,
        22505062, 24663263, 27993030, 28817694,
    ),
}  # fmt: skip


def _mantissas() -> Any:
    """Numbers between 1 and 2, spread by the golden ratio: the same ones on every machine."""
    steps = np.arange(1024, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # modulo 2**64
    return ((steps >> np.uint64(12)) | np.uint64(1023 << 52)).view(float)


def _beside(turns: Any) -> Any:
    """Numbers with their neighbours."""
    return (np.asarray(turns).view(np.int64)[:, None] + np.arange(-2, 3)).view(float).ravel()


def _arguments_of_tanh() -> list[Any]:
    turns = (np.arange(2, 65) - 0.5) * ((LOG_2 + LOG_2_REST) / 2.0)  # where log(2) is subtracted once more
    turns = np.concatenate([turns, [REDUCED / 2.0, 1.0, ONE, 2.0**-55, 2.0**-28, 2.0**-1022]])
    least = (LOG_2 + LOG_2_REST) / 4.0  # from here on a part of log(2) could be subtracted, but is not at once
    between = least + np.arange(1.0, 32.0) / 32.0 * (REDUCED / 2.0 - least)
    sizes = np.ldexp(_mantissas(), np.arange(1024) % 64 - 59)
    return [_beside(turns), between, sizes, _mantissas()[:512] * 22.0 - 22.0, _mantissas()[:512]]


def _arguments_of_log1p() -> list[Any]:
    turns = [*INNER, 2.0**-29, -(2.0**-29), 2.0**-54, 2.0**53, 1.0, 2.0**-20, -0.75, 1.5 * 2.0**-20, 2.0**1023]
    near = np.ldexp(1.0 + np.array([2.0**-21, -(2.0**-21), 2.0**-20, 2.0**-19]), np.arange(-3, 57)[:, None]).ravel()
    small = np.ldexp(_mantissas()[:512], np.arange(512) % 64 - 60)
    inner = np.multiply.outer(INNER, 1.0 + np.arange(-16.0, 17.0) / 997.0).ravel()
    some = _mantissas()[:512] * 2.0 - 2.96875
    return [_beside(turns), inner, near - 1.0, small, -small[small < 0.9], np.ldexp(small, 60), some]


_ARGUMENTS = {"tanh": _arguments_of_tanh, "log1p": _arguments_of_log1p}


def arguments_of(name: str) -> list[float]:
    """Numbers at which another way to compute a function has other results: the same ones on every machine.

    They are those where contraction or order matter, both sides of each place where the algorithm goes another way,
    numbers of every size, and many in its range.
    """
    special = [0.0, -0.0, 5e-324, 2.0**1023, math.inf]
    numbers: list[float] = np.concatenate([np.array(SENSITIVE[name]) / 2.0**26, special, *_ARGUMENTS[name]()]).tolist()
    return numbers


def digest_of(results: Any) -> str:
    """What stands for the results of a function."""
    return hashlib.sha256(array("d", results)).hexdigest()


@cache
def variant_of(name: str) -> str:
    """How the libm that CPython calls computes a function; empty if in a way that is not known here.

    Its results at some thousand arguments decide, once in each process: a libm may have several functions, from which
    it chooses by the processor and by settings of the process.
    """
    digest = digest_of(map(getattr(math, name), arguments_of(name)))
    return next((variant for variant, known in DIGESTS[name].items() if known == digest), "")
