"""The 27 nonlinear regressions of NIST's Statistical Reference Datasets, with certified answers.

Data, starting points, certified parameters (11 digits) and their standard deviations are those of the National
Institute of Standards and Technology, https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml; they are in `nist.json`.
The models are written in scalars: from the parameters and one place to the number that is predicted there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import flatgrad as fg

Array = np.ndarray[Any, np.dtype[np.float64]]


class Fit(NamedTuple):
    """A model, data, and the certified answer.

    Attributes:
        name: NIST's name of the data.
        level: how difficult NIST says that it is: "lower", "average" or "higher".
        model: from the parameters and a place to a number.
        places: where the observations were made; rows of two numbers for Nelson's data.
        observations: what was observed there (its logarithm for Nelson's data).
        starts: the two starting points; the second is closer to the answer.
        certified: the parameters of the best fit.
        deviations: their standard deviations.
        squares: the sum of the squared residuals of the best fit.
    """

    name: str
    level: str
    model: Callable[[Any, Any], Any]
    places: list[Any]
    observations: list[float]
    starts: list[Array]
    certified: Array
    deviations: Array
    squares: float

    def residuals(self, b: Any) -> Any:
        """What the model says minus what was observed, for all observations, as an array."""
        return np.array([self.model(b, x) - y for x, y in zip(self.places, self.observations, strict=True)])


def bennett(b: Any, x: float) -> Any:
    return b[0] * (b[1] + x) ** (-1.0 / b[2])


def saturation(b: Any, x: float) -> Any:
    return b[0] * (1.0 - fg.exp(-b[1] * x))


def chwirut(b: Any, x: float) -> Any:
    return fg.exp(-b[0] * x) / (b[1] + b[2] * x)


def danwood(b: Any, x: float) -> Any:
    return b[0] * x ** b[1]


def enso(b: Any, x: float) -> Any:
    turn = 2.0 * math.pi * x
    year = b[1] * math.cos(turn / 12.0) + b[2] * math.sin(turn / 12.0)
    first = b[4] * fg.cos(turn / b[3]) + b[5] * fg.sin(turn / b[3])
    return b[0] + year + first + b[7] * fg.cos(turn / b[6]) + b[8] * fg.sin(turn / b[6])


def eckerle(b: Any, x: float) -> Any:
    return b[0] / b[1] * fg.exp(-0.5 * ((x - b[2]) / b[1]) ** 2)


def gauss(b: Any, x: float) -> Any:
    first = b[2] * fg.exp(-((x - b[3]) ** 2) / b[4] ** 2)
    return b[0] * fg.exp(-b[1] * x) + first + b[5] * fg.exp(-((x - b[6]) ** 2) / b[7] ** 2)


def cubics(b: Any, x: float) -> Any:
    over = b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3
    return over / (1.0 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def kirby(b: Any, x: float) -> Any:
    return (b[0] + b[1] * x + b[2] * x**2) / (1.0 + b[3] * x + b[4] * x**2)


def lanczos(b: Any, x: float) -> Any:
    return b[0] * fg.exp(-b[1] * x) + b[2] * fg.exp(-b[3] * x) + b[4] * fg.exp(-b[5] * x)


def mgh09(b: Any, x: float) -> Any:
    return b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3])


def mgh10(b: Any, x: float) -> Any:
    return b[0] * fg.exp(b[1] / (x + b[2]))


def mgh17(b: Any, x: float) -> Any:
    return b[0] + b[1] * fg.exp(-x * b[3]) + b[2] * fg.exp(-x * b[4])


def misra1b(b: Any, x: float) -> Any:
    return b[0] * (1.0 - (1.0 + b[1] * x / 2.0) ** -2)


def misra1c(b: Any, x: float) -> Any:
    return b[0] * (1.0 - (1.0 + 2.0 * b[1] * x) ** -0.5)


def misra1d(b: Any, x: float) -> Any:
    return b[0] * b[1] * x * (1.0 + b[1] * x) ** -1


def nelson(b: Any, x: Any) -> Any:
    return b[0] - b[1] * x[0] * fg.exp(-b[2] * x[1])


def rat42(b: Any, x: float) -> Any:
    return b[0] / (1.0 + fg.exp(b[1] - b[2] * x))


def rat43(b: Any, x: float) -> Any:
    return b[0] / (1.0 + fg.exp(b[1] - b[2] * x)) ** (1.0 / b[3])


def roszman(b: Any, x: float) -> Any:
    return b[0] - b[1] * x - fg.atan(b[2] / (x - b[3])) / math.pi


#: The model of each data set.
_MODELS: dict[str, Callable[[Any, Any], Any]] = {
    "Bennett5": bennett, "BoxBOD": saturation, "Chwirut1": chwirut, "Chwirut2": chwirut, "DanWood": danwood,
    "Eckerle4": eckerle, "ENSO": enso, "Gauss1": gauss, "Gauss2": gauss, "Gauss3": gauss, "Hahn1": cubics,
    "Kirby2": kirby, "Lanczos1": lanczos, "Lanczos2": lanczos, "Lanczos3": lanczos, "MGH09": mgh09, "MGH10": mgh10,
    "MGH17": mgh17, "Misra1a": saturation, "Misra1b": misra1b, "Misra1c": misra1c, "Misra1d": misra1d,
    "Nelson": nelson, "Rat42": rat42, "Rat43": rat43, "Roszman1": roszman, "Thurber": cubics,
}  # fmt: skip


def fits() -> list[Fit]:
    """All 27, in alphabetical order."""
    stored = json.loads((Path(__file__).parent / "nist.json").read_text(encoding="utf-8"))
    result = []
    for name, model in _MODELS.items():
        data = stored[name]
        places, observations = data["x"], data["y"]
        if name == "Nelson":
            places, observations = list(zip(*places, strict=True)), [math.log(y) for y in observations]
        starts = [np.array(start) for start in data["starts"]]
        result.append(Fit(name, data["level"], model, places, observations, starts, np.array(data["certified"]),
                          np.array(data["deviations"]), data["squares"]))  # fmt: skip
    return result
