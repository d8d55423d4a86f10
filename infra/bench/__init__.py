"""Benchmarks of parts: choices that were made by measuring."""
