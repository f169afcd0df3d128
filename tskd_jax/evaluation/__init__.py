"""Evaluation: rollouts in the simulator, scores, and a check of imagined transitions."""
