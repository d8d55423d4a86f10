"""Estimates of an installation on AWS: its size, its cost, and the limits that a load exceeds."""
