"""Under pytest-benchmark, too, every engine has one core."""

from benchmarks.timing import one_core

one_core()
