"""A run's folder: what is done, checkpoints, metrics, progress."""
