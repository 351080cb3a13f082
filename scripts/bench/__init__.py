"""Benchmarks: each answers one question, with its peers in the same run."""
