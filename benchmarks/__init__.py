"""The workloads, and the side-by-side runs."""
