"""Stores: where the pipeline's results stand, with a write and a read side each. They know records, not models."""
