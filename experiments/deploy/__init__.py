"""A student on a robot: examples to start from."""
