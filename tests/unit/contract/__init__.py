"""Suites that run over every implementation of an interface."""
