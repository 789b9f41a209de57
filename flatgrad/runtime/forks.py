"""Forks: what other threads were doing at that moment stays half done in the child.

A lock that another thread holds stays locked there for ever, so the child gets new ones (`in_child`). Where a new lock
would not help, because what the lock protects is half done as well, the fork waits (`wait_for`).
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable, Sequence
from typing import Any


def in_child(function: Callable[[], object]) -> None:
    """Call a function in the child of every fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def wait_for(locks: Callable[[], Sequence[Any]]) -> None:
    """Let forks wait until no other thread holds these locks, which are taken in their order."""
    if hasattr(os, "register_at_fork"):
        quiet = Quiet(locks)
        os.register_at_fork(before=quiet.begin, after_in_parent=quiet.end, after_in_child=quiet.end_in_child)


class Quiet:
    """Holds locks from just before a fork to just after it, in both processes.

    Another thread that forks meanwhile waits for the first lock. An interrupt is put off: Python would ignore it here.
    """

    def __init__(self, locks: Callable[[], Sequence[Any]]) -> None:
        self._locks = locks
        self._locked: list[Any] = []
        self._interrupted = False

    def begin(self) -> None:
        """Take the locks."""
        for lock in self._locks():
            has_lock = False
            while not has_lock:
                try:
                    lock.__enter__()
                    has_lock = True
                except KeyboardInterrupt:
                    self._interrupted = True
            self._locked.append(lock)

    def end(self) -> None:
        """Give them back, and let an interrupt come that was put off."""
        interrupted = self._interrupted
        self.end_in_child()
        if interrupted:
            _thread.interrupt_main()

    def end_in_child(self) -> None:
        """Give them back. The interrupt was the parent's."""
        locks, self._locked, self._interrupted = self._locked, [], False
        for lock in reversed(locks):
            lock.__exit__(None, None, None)
