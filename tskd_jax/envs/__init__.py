"""Environments: what is known of each without running it, and the simulators."""
