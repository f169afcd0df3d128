"""Reports of finished runs: summaries, tables, figures and comparisons."""
