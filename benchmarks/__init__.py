"""Benchmarks: each compares with the bare engine in the same run. ``python -m benchmarks list``."""
