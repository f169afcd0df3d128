"""Scripts that make a dataset or a result; run from the repository: `python -m experiments.…`."""
