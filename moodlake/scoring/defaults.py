"""Default sizes of requests and shards. DAG files import this module, so it imports nothing."""

DEFAULT_BATCH_SIZE = 16
"""Images per request."""
DEFAULT_SHARD_SIZE = 1024
"""Small images per task: about half a minute of work, which outweighs the overhead of a task."""
MAX_SHARD_SIZE = 10_000
"""Upper limit: a task holds its rows in memory, and starts over if it is killed."""
