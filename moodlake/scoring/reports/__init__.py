"""Reports on runs, on drift and on the comparison of two models."""
