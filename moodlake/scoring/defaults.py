"""How much is taken at once; imported by DAG files, so it imports nothing."""

DEFAULT_BATCH_SIZE = 16
"""Images in a request."""
DEFAULT_SHARD_SIZE = 1024
"""Small images in a task: half a minute's work, against which what Airflow takes for a task is
little."""
MAX_SHARD_SIZE = 10_000
"""A task that is killed begins anew; and it holds its rows in memory."""
