"""Benchmarks behind the figures in docs/."""
