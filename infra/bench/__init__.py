"""Benchmarks whose results docs/measurements.md records."""
