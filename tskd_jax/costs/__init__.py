"""The costs of a run, derived from its config: its stages, and the programs that they compile."""
