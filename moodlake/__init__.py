"""moodlake: from images in a bucket to a table of emotion distributions.

The library. It imports neither Airflow nor TorchServe nor DVC; those call it.
"""

__version__ = "0.1.0"
