"""What a run costs, by its config alone: its stages, and the programs that they compile."""
