"""Learned parts that are not diffusers: dynamics, values, policies."""
