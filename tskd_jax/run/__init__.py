"""A run and its folder: finished stages, checkpoints, metrics, progress."""
