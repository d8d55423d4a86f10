"""Imports of the tasks, for the process they are forked from: Great Expectations takes seconds."""

import os

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations  # noqa: F401

import tests.chaos.task  # noqa: F401
