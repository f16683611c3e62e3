"""Golden files of contracts."""
