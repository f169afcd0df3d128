"""A training as a value, and the one loop that runs it."""
