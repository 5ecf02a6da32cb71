"""Records at places that are no directories: `s3://bucket/runs/first` and whatever fsspec knows."""
