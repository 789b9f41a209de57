"""Macros for assembly that is written by hand: the lines that occur again and again."""

from __future__ import annotations

import itertools

#: Each check and each loop has labels of its own.
_labels = itertools.count()


def field(name: str, kind: str, start: str, offset: int) -> str:
    """Load a field of a structure, at an offset in bytes, into `%name`.

    >>> print(field("size", "i64", "%object", 16))
    %size.at = getelementptr i8, ptr %object, i64 16
      %size = load i64, ptr %size.at
    """
    return f"%{name}.at = getelementptr i8, ptr {start}, i64 {offset}\n  %{name} = load {kind}, ptr %{name}.at"


def item(name: str, kind: str, start: str, place: str) -> str:
    """Load an item of an array into `%name`."""
    return f"%{name}.at = getelementptr {kind}, ptr {start}, i64 {place}\n  %{name} = load {kind}, ptr %{name}.at"


def branch(condition: str, yes: str, no: str) -> str:
    """Go to one of two labels: `branch("icmp eq i64 %a, %b", "equal", "other")`."""
    k = next(_labels)
    return f"%is{k} = {condition}\n  br i1 %is{k}, label %{yes}, label %{no}"


def require(condition: str, other: str) -> str:
    """Go on if a condition holds, else to a label."""
    k = next(_labels)
    return f"%is{k} = {condition}\n  br i1 %is{k}, label %on{k}, label %{other}\non{k}:"


def each(counter: str, count: str, done: str) -> str:
    """The head of a loop: `%counter` is 0, 1, ... below `%count`; then it goes to a label.

    The body follows, and ends with `br label %counter.step`.
    """
    return f"""\
br label %{counter}.begin
{counter}.begin:
  br label %{counter}.head
{counter}.step:
  %{counter}.next = add i64 %{counter}, 1
  br label %{counter}.head
{counter}.head:
  %{counter} = phi i64 [ 0, %{counter}.begin ], [ %{counter}.next, %{counter}.step ]
  {require(f"icmp ult i64 %{counter}, {count}", done)}"""
