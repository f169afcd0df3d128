"""Learned models other than diffusers: dynamics, values, policies."""
