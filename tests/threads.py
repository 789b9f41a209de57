"""Running a function in several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

#: Seconds after which a thread that waits for the others gives up.
WAIT = 60


def in_threads(work: Callable[[int], Any], count: int = 8) -> list[Any]:
    """Run `work(k)` in threads that begin together; return the results, or raise what one of them raised."""
    barrier = threading.Barrier(count)

    def run(k: int) -> Any:
        barrier.wait(WAIT)
        return work(k)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
