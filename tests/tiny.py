"""Settings for runs of the command in tests."""

# Flags with which a whole run takes a minute, nearly all of it compilation.
TINY_FLAGS = (
    "--config.steps_multiplier=0.002",
    "--config.trajectory_generator.features=8",
    "--config.trajectory_generator.multipliers=(1,2)",
    "--config.reward_generator.features=8",
    "--config.reward_generator.multipliers=(1,2)",
    "--config.sampling.steps=3",
    "--config.sampling.stride=7",
    "--config.reward_sampling.steps=3",
    "--config.imagination.trajectories=3",
    "--config.imagination.consistency=0.0",
    "--config.stitching.tolerance=50.0",
    "--config.stitching.radius=0.5",
    "--config.evaluation.episodes=2",
    "--config.evaluation.simulator_check=20",
    "--config.seeds=(0,1)",
    "--config.checkpoint_seconds=0.01",
)
