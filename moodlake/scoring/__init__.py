"""Batch scoring: from the images of a bucket to rows of a Delta table."""
