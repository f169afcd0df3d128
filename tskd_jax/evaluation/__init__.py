"""Evaluation: rollouts, scores and their intervals, offline estimates, a check of imagination."""
