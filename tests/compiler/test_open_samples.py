"""Searches for one program for all sizes: how much of their samples is made."""

from __future__ import annotations

from typing import Any

import pytest

import flatgrad as fg
from flatgrad.compiler import open_samples
from flatgrad.compiler.open_samples import RerolledSample, differing
from flatgrad.compiler.stages import Stages


def growing(x: list[Any]) -> Any:
    """A function with more statements for more numbers: each power has its own."""
    return sum(fg.sin(a) ** k * fg.exp(b) for k, a in enumerate(x) for b in x)


def even(x: list[Any]) -> Any:
    return sum(fg.sin(a) * a for a in x)


def stages_of(function: Any, n: int) -> Stages:
    return fg.grad(function, backend="python").kernel_for([0.5] * n).stages


@pytest.fixture
def rerolled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many equations each program has that is re-rolled."""
    sizes: list[int] = []
    reroll = open_samples.reroll

    def noting(program: Any, **options: Any) -> Any:
        sizes.append(len(program))
        return reroll(program, **options)

    monkeypatch.setattr(open_samples, "reroll", noting)
    return sizes


def test_two_samples_with_different_statements_end_a_search(rerolled: list[int]) -> None:
    stages = [stages_of(growing, n) for n in (5, 6, 7, 8)]
    first = [RerolledSample(each, (2, 0)) for each in stages]
    assert {sample.stages for sample in differing(first, nest=True)} == {stages[0], stages[-1]}
    assert rerolled == [len(stages[k].array_parts[0]) for k in (-1, 0)]


def test_what_is_known_of_a_sample_serves_other_searches(rerolled: list[int]) -> None:
    stages = [stages_of(growing, n) for n in (5, 6, 7)]
    known = differing([RerolledSample(each, (2, 0)) for each in stages], nest=True)
    rerolled.clear()
    again = differing([RerolledSample(each, (2, 0)) for each in (stages[0], stages[2], stages_of(growing, 9))], True)
    assert [sample.counts(True) for sample in again] == [known[1].counts(True), known[0].counts(True)]
    assert not rerolled
    differing([RerolledSample(each, (4, 0)) for each in stages], nest=True)  # in another way nothing is known
    assert len(rerolled) == 2


def test_samples_with_the_same_statements(rerolled: list[int]) -> None:
    samples = [RerolledSample(stages_of(even, n), (2, 0)) for n in (5, 6, 7)]
    assert differing(samples, nest=True) == []
    assert len({sample.counts(True) for sample in samples}) == 1
    assert len(rerolled) == len(samples)
