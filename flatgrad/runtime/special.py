"""Special functions that neither `math` nor C's library has, as scalar functions in plain operations.

Generated source contains them as they stand here; C and machine code are made of them. So all back ends have the same
bits. They must run on Python 3.8, and use nothing but `math`, `scalar.py` and each other.
"""

from __future__ import annotations

from math import cos, erf, erfc, exp, fmod, inf, log, log1p, nan, pow, sin, sqrt, tan

from .scalar import floor, rint

# Coefficients fill their lines.
# fmt: off


def sinpi(x: float) -> float:
    """sin(pi * x) of a number that is not negative."""
    y = fmod(x, 2.0)
    if y < 0.25:
        return sin(3.141592653589793 * y)
    if y < 0.75:
        return cos(3.141592653589793 * (y - 0.5))
    if y < 1.25:
        return sin(3.141592653589793 * (1.0 - y))
    if y < 1.75:
        return -cos(3.141592653589793 * (y - 1.5))
    return sin(3.141592653589793 * (y - 2.0))


def lanczos(a: float) -> float:
    """The sum of Lanczos' approximation with the coefficients of Boost (13 terms, g = 6.02...)."""
    if a < 5.0:
        p = 2.5066282746310002
        for c in (
            210.82427775157936, 8071.672002365816, 186056.26539522348, 2876370.6289353725,
            31426415.585400194, 248874557.86205417, 1439720407.3117216, 6039542586.352028,
            17921034426.03721, 35711959237.35567, 42919803642.6491, 23531376880.41076,
        ):
            p = p * a + c
        q = 1.0
        for c in (
            66.0, 1925.0, 32670.0, 357423.0, 2637558.0, 13339535.0, 45995730.0, 105258076.0,
            150917976.0, 120543840.0, 39916800.0, 0.0,
        ):
            q = q * a + c
    else:
        p = 23531376880.41076
        for c in (
            42919803642.6491, 35711959237.35567, 17921034426.03721, 6039542586.352028,
            1439720407.3117216, 248874557.86205417, 31426415.585400194, 2876370.6289353725,
            186056.26539522348, 8071.672002365816, 210.82427775157936, 2.5066282746310002,
        ):
            p = p / a + c
        q = 0.0
        for c in (
            39916800.0, 120543840.0, 150917976.0, 105258076.0, 45995730.0, 13339535.0, 2637558.0,
            357423.0, 32670.0, 1925.0, 66.0, 1.0,
        ):
            q = q / a + c
    return p / q


def gamma(x: float) -> float:
    """The gamma function, in the order of operations of CPython's `math.gamma`.

    Factorials up to 22! are exact; else it is Lanczos' approximation, with a correction of what is rounded in y, and
    the reflection formula below 0.
    """
    if x != x or x == inf:
        return x
    if x == floor(x):
        if x <= 0.0:
            raise ValueError("a pole")
        if x <= 23.0:
            r = 1.0
            while x > 1.0:
                x = x - 1.0
                r = r * x
            return r
    a = abs(x)
    if a < 1e-20:
        r = 1.0 / x
    elif a > 200.0:
        if x > 0.0:
            raise OverflowError("the gamma function overflows")
        return 0.0 / sinpi(x)
    else:
        y = a + 5.524680040776729583740234375
        if a > 5.524680040776729583740234375:
            z = y - a - 5.524680040776729583740234375
        else:
            z = y - 5.524680040776729583740234375 - a
        z = z * 6.024680040776729583740234375 / y
        if x < 0.0:
            r = -3.141592653589793 / sinpi(a) / a * exp(y) / lanczos(a)
            r = r - z * r
            if a < 140.0:
                return r / pow(y, a - 0.5)
            w = pow(y, a / 2.0 - 0.25)
            return r / w / w
        r = lanczos(a) / exp(y)
        r = r + z * r
        if a < 140.0:
            r = r * pow(y, a - 0.5)
        else:
            w = pow(y, a / 2.0 - 0.25)
            r = r * w * w
    if abs(r) == inf:
        raise OverflowError("the gamma function overflows")
    return r


def lgamma(x: float) -> float:
    """The logarithm of the absolute value of the gamma function.

    Lanczos' approximation, and the reflection formula below 0, in the order of operations of CPython's `math.lgamma`.
    """
    if x != x:
        return x
    if abs(x) == inf:
        return inf
    if x <= 2.0 and x == floor(x):
        if x <= 0.0:
            raise ValueError("a pole")
        return 0.0
    a = abs(x)
    if a < 1e-20:
        return -log(a)
    y = log(lanczos(a)) - 6.024680040776729583740234375
    y = y + (a - 0.5) * (log(a + 6.024680040776729583740234375 - 0.5) - 1.0)
    if x < 0.0:
        y = 1.1447298858494002 - log(abs(sinpi(a))) - log(a) - y
    if y == inf:
        raise OverflowError("the logarithm of the gamma function overflows")
    return y


def digamma(x: float) -> float:
    """The derivative of `lgamma`.

    Below 1 the reflection formula or a step upwards; on [1, 2] a polynomial (a Chebyshev fit, made with mpmath) times
    the distance from the zero, a sum of two floats; steps downwards to there; from 10 on the asymptotic series.
    """
    if x != x or x == inf:
        return x
    y = 0.0
    if x <= 0.0:
        if x == floor(x):
            raise ValueError("a pole")
        y = -3.141592653589793 / tan(3.141592653589793 * (x - rint(x)))
        x = 1.0 - x
    if x >= 10.0:
        w = 1.0 / x / x
        s = 0.08333333333333333
        for c in (
            -0.021092796092796094, 0.007575757575757576, -0.004166666666666667, 0.003968253968253968,
            -0.008333333333333333, 0.08333333333333333,
        ):
            s = s * w + c
        return y + (log(x) - 0.5 / x - s * w)
    if x < 1.0:
        y = y - 1.0 / x
        x = x + 1.0
    s = 0.0
    while x > 2.0:
        x = x - 1.0
        s = s + 1.0 / x
    t = 2.0 * x - 3.0
    p = -1.0015117602062808e-11
    for c in (
        2.918622732168261e-11, -2.7468150389464952e-11, 8.734528429142953e-11, -4.197772636734229e-10,
        1.2469984616707403e-09, -3.5032218996509724e-09, 1.0527692435026686e-08, -3.181266980138485e-08,
        9.543298288278275e-08, -2.8620904099739414e-07, 8.589060721930695e-07, -2.578134894751126e-06,
        7.741234508636364e-06, -2.3258232466707952e-05, 6.995018825112794e-05, -0.00021074841288961643,
        0.0006368880303865817, -0.001935066664735652, 0.005936795278301761, -0.01855061538173984,
        0.06013562106019684, -0.21181371064073024, 0.9510558760318328,
    ):
        p = p * t + c
    y = y + (s + p * (x - 1.4616321449683622 - 9.549995429965697e-17))
    if abs(y) == inf:
        raise OverflowError("the digamma function overflows")
    return y


def trigamma(x: float) -> float:
    """The derivative of `digamma`: steps upwards to 10, then the asymptotic series; the reflection formula below 0."""
    if x != x:
        return x
    if x <= 0.0:
        if x == floor(x):
            raise ValueError("a pole")
        y = 3.141592653589793 / sin(3.141592653589793 * (x - rint(x)))
        y = y * y - trigamma_of_positive(1.0 - x)
    else:
        y = trigamma_of_positive(x)
    if y == inf:
        raise OverflowError("the trigamma function overflows")
    return y


def trigamma_of_positive(x: float) -> float:
    """`trigamma` of a positive number; inf where it overflows."""
    y = 0.0
    while x < 10.0:
        y = y + 1.0 / x / x
        x = x + 1.0
    w = 1.0 / x / x
    s = 1.1666666666666667
    for c in (
        -0.2531135531135531, 0.07575757575757576, -0.03333333333333333, 0.023809523809523808, -0.03333333333333333,
        0.16666666666666666,
    ):
        s = s * w + c
    return y + (s * w / x + 0.5 * w + 1.0 / x)


def polygamma(n: float, x: float) -> float:
    """The derivative of order n of `digamma`, n from 2 to 100, of a positive x.

    It is n! times Hurwitz' zeta function, which is summed by Euler's and Maclaurin's formula.
    """
    if x != x or n != n:
        return x + n
    if not (x > 0.0 and 2.0 <= n <= 100.0) or n != floor(n):
        raise ValueError("an order from 2 to 100, and a positive number")
    s = n + 1.0
    y = 0.0
    while x < 10.0 + n:
        y = y + pow(x, -s)
        x = x + 1.0
    y = y + pow(x, -n) / n + 0.5 * pow(x, -s)
    factor = s * pow(x, -s - 1.0)
    k = 1.0
    for c in (
        0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07,
        2.08767569878681e-08, -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13,
    ):
        y = y + c * factor
        factor = factor * (s + k) * (s + k + 1.0) / x / x
        k = k + 2.0
    k = 1.0
    while k <= n:
        y = y * k
        k = k + 1.0
    if y == inf:
        raise OverflowError("the polygamma function overflows")
    return y if fmod(n, 2.0) == 1.0 else -y


def ndtr(x: float) -> float:
    """The distribution function of the normal distribution, by `erf` and `erfc`."""
    z = x * 0.7071067811865476
    if abs(z) < 0.7071067811865476:
        return 0.5 + 0.5 * erf(z)
    if z < 0.0:
        return 0.5 * erfc(-z)
    return 1.0 - 0.5 * erfc(z)


def log_ndtr(x: float) -> float:
    """The logarithm of `ndtr`; below -20 by the asymptotic series."""
    if x < -20.0:
        w = 1.0 / x / x
        s = 1.0
        for c in (13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
            s = 1.0 - c * w * s
        return log(s) - log(-x) - 0.9189385332046727 - 0.5 * x * x
    if x < 1.0:
        return log(ndtr(x))
    return log1p(-0.5 * erfc(x * 0.7071067811865476))


def ndtri(p: float) -> float:
    """The inverse of `ndtr`: rational functions of Wichura's algorithm AS 241 (Applied Statistics 37, 1988)."""
    if p != p:
        return p
    if not 0.0 < p < 1.0:
        raise ValueError("a probability between 0 and 1")
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        a = 2509.0809287301227
        for c in (
            33430.57558358813, 67265.7709270087, 45921.95393154987, 13731.69376550946,
            1971.5909503065513, 133.14166789178438, 3.3871328727963665,
        ):
            a = a * r + c
        b = 5226.495278852854
        for c in (
            28729.085735721943, 39307.89580009271, 21213.794301586597, 5394.196021424751,
            687.1870074920579, 42.31333070160091, 1.0,
        ):
            b = b * r + c
        return a * q / b
    r = sqrt(-log(p if q <= 0.0 else 1.0 - p))
    if r <= 5.0:
        r = r - 1.6
        a = 0.0007745450142783414
        for c in (
            0.022723844989269184, 0.2417807251774506, 1.2704582524523684, 3.6478483247632045,
            5.769497221460691, 4.630337846156546, 1.4234371107496835,
        ):
            a = a * r + c
        b = 1.0507500716444169e-09
        for c in (
            0.0005475938084995345, 0.015198666563616457, 0.14810397642748008, 0.6897673349851,
            1.6763848301838038, 2.053191626637759, 1.0,
        ):
            b = b * r + c
    else:
        r = r - 5.0
        a = 2.0103343992922881e-07
        for c in (
            2.7115555687434876e-05, 0.0012426609473880784, 0.026532189526576124, 0.29656057182850487,
            1.7848265399172913, 5.463784911164114, 6.657904643501103,
        ):
            a = a * r + c
        b = 2.0442631033899397e-15
        for c in (
            1.421511758316446e-07, 1.8463183175100548e-05, 0.0007868691311456133,
            0.014875361290850615, 0.1369298809227358, 0.599832206555888, 1.0,
        ):
            b = b * r + c
    return -(a / b) if q < 0.0 else a / b


def j0(x: float) -> float:
    """The Bessel function of the first kind of order 0.

    Up to 8 a polynomial times the factors of its first two zeros (each a sum of two floats); beyond it Hankel's form
    sqrt(2 / (pi*x)) * (p * cos(x - pi/4) - q * sin(x - pi/4)), with polynomials p and q in (8/x)**2.
    All of them are Chebyshev fits, made with mpmath.
    """
    if x != x:
        return x
    r = abs(x)
    if r == inf:
        return 0.0
    if r <= 8.0:
        t = r * r * 0.03125 - 1.0
        s = -1.2482967042743655e-14
        for c in (
            3.4063540255152697e-13, -8.023472601933258e-12, 1.6276296659994082e-10,
            -2.7948629678329127e-09, 3.998839476948713e-08, -4.677128021300745e-07,
            4.366932324180517e-06, -3.157342540223544e-05, 0.00016977200714005512,
            -0.0006415390646406123, 0.0015636431645931613, -0.002119794289479692,
            0.0011434937743762545,
        ):
            s = s * t + c
        s = s * (r - 2.404825557695773 + 1.176691651530894e-16) * (r + 2.404825557695773)
        return s * (r - 5.520078110286311 - 8.088597146146722e-17) * (r + 5.520078110286311)
    t = 128.0 / (r * r) - 1.0
    p = -1.180002783020184e-14
    for c in (
        3.339452259070809e-14, -6.416781008015415e-14, 2.4531772967345006e-13, -1.0636861151667625e-12,
        4.786995821368028e-12, -2.4882702786880542e-11, 1.5500565496632596e-10, -1.2121182069774233e-09,
        1.280376144080092e-08, -2.0527448156307146e-07, 6.137416080109497e-06, -0.0005363673192130047,
        0.9994572757882519,
    ):
        p = p * t + c
    q = 1.2731367623367943e-14
    for c in (
        -3.417306155904644e-14, 5.756325587995953e-14, -2.0979723806283122e-13, 8.689732394690306e-13,
        -3.605043103124562e-12, 1.7029372022291316e-11, -9.469830663448226e-11, 6.432789503382007e-10,
        -5.668717017471248e-09, 7.106214852192226e-08, -1.477138832589449e-06, 6.833149099344083e-05,
        -0.01555511387951352,
    ):
        q = q * t + c
    c = cos(r)
    s = sin(r)
    total = s + c
    difference = s - c
    if r < 1e300:
        if s * c < 0.0:
            total = -cos(r + r) / difference
        else:
            difference = -cos(r + r) / total
    return (p * total - q * 8.0 / r * difference) / sqrt(3.141592653589793 * r)


def j1(x: float) -> float:
    """The Bessel function of the first kind of order 1.

    Up to 8 a polynomial times the factors of its first two zeros (each a sum of two floats); beyond it Hankel's form
    sqrt(2 / (pi*x)) * (p * cos(x - 3*pi/4) - q * sin(x - 3*pi/4)), with polynomials p and q in (8/x)**2.
    All of them are Chebyshev fits, made with mpmath.
    """
    if x != x:
        return x
    r = abs(x)
    if r == inf:
        return 0.0
    if r <= 8.0:
        t = r * r * 0.03125 - 1.0
        s = -3.9104228826133377e-16
        for c in (
            1.1384465543068819e-14, -2.875530868558852e-13, 6.284676985256089e-12,
            -1.1696932521783476e-10, 1.8268548082885016e-09, -2.352192254577852e-08,
            2.442522260616395e-07, -1.989093515914257e-06, 1.224217365301787e-05,
            -5.408003239085506e-05, 0.00015860016799369858, -0.0002697522746716368,
            0.00019498936985895625,
        ):
            s = s * t + c
        s = s * (r - 3.8317059702075125 + 1.5269184090088067e-16) * (r + 3.8317059702075125)
        return x * (s * (r - 7.015586669815619 + 9.414165653410389e-17) * (r + 7.015586669815619))
    t = 128.0 / (r * r) - 1.0
    p = 1.2489929194563941e-14
    for c in (
        -3.5455617466606254e-14, 6.864486664846182e-14, -2.6335760672461096e-13, 1.1462229852806783e-12,
        -5.191158004646548e-12, 2.720406848040165e-11, -1.713107485294131e-10, 1.3603058049468316e-09,
        -1.4708512991275258e-08, 2.4536766222672443e-07, -7.9596946984383e-06, 0.0008988049416705579,
        1.0009070262780821,
    ):
        p = p * t + c
    q = -1.3449019339973269e-14
    for c in (
        3.620117603894229e-14, -6.144675787095688e-14, 2.2462055932168237e-13, -9.33138059712287e-13,
        3.8929927766683146e-12, -1.8520736145988993e-11, 1.0394482901993273e-10, -7.151113611051071e-10,
        6.420133519314915e-09, -8.291960701313517e-08, 1.8212018511674905e-06, -9.621458822054632e-05,
        0.04677687402744898,
    ):
        q = q * t + c
    c = cos(r)
    s = sin(r)
    total = s + c
    difference = s - c
    if r < 1e300:
        if s * c < 0.0:
            total = -cos(r + r) / difference
        else:
            difference = -cos(r + r) / total
    y = (p * difference + q * 8.0 / r * total) / sqrt(3.141592653589793 * r)
    return y if x > 0.0 else -y


# Where these raise, the following give what IEEE 754 would: inf where a result overflows, else NaN.


def ieee_gamma(x: float) -> float:
    """gamma(x); inf where it overflows, NaN at a pole."""
    try:
        return gamma(x)
    except OverflowError:
        return inf
    except ValueError:
        return nan


def ieee_lgamma(x: float) -> float:
    """lgamma(x); inf where it overflows, NaN at a pole."""
    try:
        return lgamma(x)
    except OverflowError:
        return inf
    except ValueError:
        return nan


def ieee_digamma(x: float) -> float:
    """digamma(x); inf where it overflows, NaN at a pole."""
    try:
        return digamma(x)
    except OverflowError:
        return inf
    except ValueError:
        return nan


def ieee_trigamma(x: float) -> float:
    """trigamma(x); inf where it overflows, NaN at a pole."""
    try:
        return trigamma(x)
    except OverflowError:
        return inf
    except ValueError:
        return nan


def ieee_polygamma(n: float, x: float) -> float:
    """polygamma(n, x); inf where it overflows, NaN where it is not defined here."""
    try:
        return polygamma(n, x)
    except OverflowError:
        return inf
    except ValueError:
        return nan


def ieee_ndtri(p: float) -> float:
    """ndtri(p); NaN outside of (0, 1)."""
    return ndtri(p) if 0.0 < p < 1.0 else nan
