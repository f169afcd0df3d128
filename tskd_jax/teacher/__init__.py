"""The teacher: DDR-I imagines trajectories, DDR-II prices stitches, f(s, s') finds actions."""
