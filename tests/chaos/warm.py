"""All that tasks import, for the process that they are forked of: the gate's takes seconds."""

import os

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations  # noqa: F401

import tests.chaos.task  # noqa: F401
