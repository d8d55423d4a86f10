"""Sources of images: S3 buckets, inventories, notifications and local files."""
