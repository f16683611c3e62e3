"""Faults and rubbish on purpose: `python -m tests.chaos` (faults on every process), `python -m tests.chaos.fuzz`."""
