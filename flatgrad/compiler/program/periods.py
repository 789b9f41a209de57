"""Periods: the distances at which a sequence of symbols repeats, in time linear in its length."""

from __future__ import annotations

from typing import Any

import numpy as np

#: So many periods are tried per window of symbols.
_CANDIDATES = 4
_WINDOWS = (4, 32, 512)
#: About so many windows of a sequence that is too long to look at all of them.
_SAMPLE = 1 << 18
_MIX = np.uint64(0x9E3779B97F4A7C15)


def mixed(integers: Any) -> Any:
    """Integers as hashes of 64 bits."""
    return (np.asarray(integers).astype(np.uint64) + np.uint64(1)) * _MIX


def periods(hashes: Any, sampled: bool = False) -> list[int]:
    """The distances at which windows of symbols, given as hashes, recur most often.

    Of long sequences only some windows may be `sampled`. Which ones depends on what they contain, so that all windows
    that are alike are chosen, or none of them.

    >>> periods(mixed([1, 2, 2, 5, 3] * 20))[0]
    5
    """
    result: dict[int, None] = {}
    rate = max(1, len(hashes) // _SAMPLE) if sampled else 1
    width = 1
    for window in _WINDOWS:
        if 2 * window > len(hashes):
            break
        while width < window:
            hashes = (hashes[:-width] * np.uint64(0xBF58476D1CE4E5B9)) ^ (
                hashes[width:] * np.uint64(0x94D049BB133111EB)
            )
            hashes ^= hashes >> np.uint64(31)
            width *= 2
        places = np.flatnonzero(hashes % np.uint64(rate) == 0) if rate > 1 else np.arange(len(hashes))
        # Hashes and places are sorted as one number each, which is several times as fast as sorting places by hashes.
        bits = np.uint64(len(hashes).bit_length())
        keys = np.sort((hashes[places] >> bits << bits) | places.astype(np.uint64))
        equal = (keys[1:] ^ keys[:-1]) >> bits == 0
        places = (keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
        counts = np.bincount(np.diff(places)[equal], minlength=1)
        distances = np.flatnonzero(counts)
        ranks = (counts[distances] << 32) - distances  # of those that are as frequent, the shortest comes first
        if len(ranks) > _CANDIDATES:
            ranks = np.partition(ranks, len(ranks) - _CANDIDATES)[-_CANDIDATES:]
        result.update(dict.fromkeys((-np.sort(ranks)[::-1] & 0xFFFFFFFF).tolist()))
    return list(result)


def longest_run(symbols: Any, places: Any, period: int) -> tuple[int, int] | None:
    """Where symbols repeat with a period for longest, while what stands at equal symbols advances evenly.

    >>> longest_run(np.array([7, 1, 2, 1, 2, 1, 2, 9]), np.array([0, 4, 8, 5, 8, 6, 8, 0]), 2)
    (1, 7)
    """
    if 2 * period >= len(symbols):
        return None
    same = (symbols[2 * period :] == symbols[period:-period]) & (symbols[period:-period] == symbols[: -2 * period])
    steps = places[period:] - places[:-period]
    same &= steps[period:] == steps[:-period]
    if not same.any():
        return None
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.view(np.int8), [0]])))
    longest = int(np.argmax(edges[1::2] - edges[::2]))
    return int(edges[::2][longest]), int(edges[1::2][longest]) + 2 * period
