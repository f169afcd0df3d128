"""Environments: facts that need no simulator, and the simulators."""
