"""The presets `small` and `quick`: how they differ from the paper's settings.

Also, for the preset `paper`, settings that the authors of baselines published for a single
environment or dataset.
"""

from typing import Any

_FAST = {"learning_rate": 1e-3, "schedule": "cosine"}
# Networks and horizons that two CPU cores can handle. docs/paper-to-code.md gives the reason for
# each difference from the paper.
_SMALL_DIFFUSER = {
    "kernel_size": 3,
    "diffusion_steps": 100,
    "prediction": "velocity",
    "normalizer": "gaussian",
    "batch_size": 256,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "relative": True,
}
# One step from recorded states: docs/imagination.md gives the reason.
_SMALL_TRAJECTORIES = _SMALL_DIFFUSER | {
    "horizon": 2,
    "multipliers": (1,),
    "residual": True,
    "condition": "advantage",
    "advantage_trace": 1.0,
    "kept_fraction": 0.9,
}
_SMALL_REWARDS = _SMALL_DIFFUSER | {
    "features": 32,
    "horizon": 1,
    "multipliers": (2, 2),
    "target_weight": 10.0,
}
# The planners Decision Diffuser (here) and Diffuser (below), for five seeds. Two cores compile and
# run their programs in minutes: they plan a few steps ahead, not a hundred or 31, with networks of
# one level, whose receptive field covers so few steps. In Decision Diffuser's loss the next state,
# from which the action is computed, weighs ten times as much as the states after it.
_SMALL_STATES = _SMALL_DIFFUSER | {
    "features": 64,
    "multipliers": (1,),
    "horizon": 4,
    "batch_size": 128,
    "target_weight": 10.0,
    "accumulate": 1,
    "termination_penalty": 0.0,
    "sampler": "ddim",
    "sampling_steps": 10,
    "start": 0.94,
}
_SMALL_NETWORK = _FAST | {"multipliers": (1,), "kernel_size": 3, "accumulate": 1}
# Such a small value function J ranks states, but hardly ranks the plans that start from one state:
# hopper falls sooner with the published guide scale of 0.1 than with almost no guidance.
_SMALL_JOINT = _SMALL_NETWORK | {
    "guide_scale": 0.001,
    "horizon": 8,
    "prediction": "velocity",
    "diffusion_steps": 10,
    "plans": 8,
}
_SMALL_GUIDE = _SMALL_NETWORK | {"termination_penalty": 0.0}
_FEW_STEPS = {"sampler": "ddim", "steps": 10, "start": 0.94}
_SMALL_SAMPLING = _FEW_STEPS | {"target_return": 1.0, "guidance": 1.0, "temperature": 0.0}
# The learned world executes imagined plans, and so shows which of them are possible.
_IMAGINATION = {"chunk": 8192, "world": "random_member"}
_STITCHING = {"rule": "density_first", "tolerance": 2.0, "allow_cycles": False}
_SMALL_WGAN = _FAST | {"hidden": (256, 256)}
# A teacher's actions contain no noise: students gain from more updates, not from larger batches.
_STUDENT = _FAST | {"batch_size": 64}
# Fewer updates than published, and therefore faster target networks: values propagate back by one
# step per time constant, 1 / target_average updates.
_CRITICS = _FAST | {"target_average": 0.01}
_SOME_UPDATES = _CRITICS | {"steps": 30_000, "batch_size": 256}
_FEW_UPDATES = _CRITICS | {"steps": 15_000, "batch_size": 64}  # as students
_TD3_BC = {"actor_learning_rate": 1e-3, "actor_schedule": "cosine"}
# A critic of few updates leads the actor astray: imitation weighs more than with a million.
_REBRAC = {"actor_schedule": "cosine", "actor_weight": 0.1, "critic_weight": 0.1}
# 12 actions a state, not 30.
_CQL = {
    "batch_size": 64,
    "actions": 4,
    "actor_learning_rate": 3e-4,
    "actor_schedule": "cosine",
}
# Transformers of half the width, with shorter contexts and a smaller search. At `quick` a
# Trajectory Transformer shows only that it runs, not how well it scores: it needs more updates than
# fit into minutes.
_SMALL_DT = _FAST | {"head_width": 64, "context": 10}
_SMALL_TT = {"learning_rate": 1e-3, "layers": 2, "head_width": 16, "replan_every": 2}
_METHODS = ("bc", "filtered_bc", "chosen_bc", "tskd_one_step")
# The learned world judges filtered and imagined data before they are used (docs/referee.md).
_SELECTION = {"by": "referee", "shares": (0.02, 0.05, 0.1, 0.2, 0.4, 1.0)}

# Preset -> section (or field at the top) -> field -> value.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {
        "methods": _METHODS,
        "inverse_dynamics": _FAST | {"steps": 40_000, "batch_size": 256},
        "dynamics": _FAST | {"steps": 20_000},
        "value": {"steps": 50_000},
        "cvae": _FAST | {"steps": 40_000, "batch_size": 256},
        "wgan": _SMALL_WGAN | {"steps": 20_000},
        "world": _FAST | {"steps": 25_000},
        "baseline": _FAST | {"steps": 8_000, "batch_size": 256},
        "trajectory_generator": _SMALL_TRAJECTORIES | {"steps": 15_000, "members": 2},
        "teachers": {"count": 3, "keep": "best"},
        "reward_generator": _SMALL_REWARDS | {"steps": 20_000},
        "sampling": _SMALL_SAMPLING,
        "reward_sampling": _FEW_STEPS | {"guidance": 1.0},
        "imagination": _IMAGINATION,
        "stitching": _STITCHING,
        "filter": {"rule": "share"},
        "selection": _SELECTION,
        "student": _STUDENT | {"steps": 40_000},
        "referee": {"episodes": 40},
        "fitted_q": {"steps": 50_000},
        "mbts": {"epochs": 2},
        "decision_diffuser": _SMALL_STATES | {"steps": 20_000},
        "diffuser": _SMALL_JOINT | {"features": 64, "steps": 20_000},
        "value_guide": _SMALL_GUIDE | {"features": 64, "steps": 10_000},
        "tskd_one_step": {"substitute": True},
        "iql": _SOME_UPDATES,
        "td3_bc": _SOME_UPDATES | _TD3_BC,
        "rebrac": _SOME_UPDATES | _REBRAC,
        "cql": _SOME_UPDATES | _CQL,
        "decision_transformer": _SMALL_DT | {"steps": 8_000},
        "trajectory_transformer": _SMALL_TT
        | {"steps": 4_000, "batch_size": 64, "sequence": 5, "context": 4}
        | {"horizon": 5, "beam_width": 8},
    },
    "quick": {
        "methods": ("bc", "filtered_bc", "tskd_one_step"),
        "inverse_dynamics": _FAST | {"steps": 6_000, "batch_size": 256},
        "dynamics": _FAST | {"steps": 1_000},
        "value": _FAST | {"steps": 3_000, "target_average": 0.05},
        "cvae": _FAST | {"steps": 6_000, "batch_size": 256},
        "wgan": _SMALL_WGAN | {"steps": 3_000},
        "world": _FAST | {"steps": 8_000},
        "baseline": _FAST | {"steps": 2_000, "batch_size": 256},
        "trajectory_generator": _SMALL_TRAJECTORIES | {"steps": 5_000},
        "reward_generator": _SMALL_REWARDS | {"steps": 2_000},
        "sampling": _SMALL_SAMPLING,
        "reward_sampling": _FEW_STEPS | {"guidance": 1.0},
        "imagination": _IMAGINATION,
        "stitching": _STITCHING | {"epochs": 1},
        "filter": {"rule": "share"},
        "selection": _SELECTION | {"shares": (0.1,)},
        "student": _STUDENT | {"steps": 15_000},
        "fitted_q": {"steps": 20_000},
        "mbts": {"epochs": 1},
        "referee": {"episodes": 40},
        "iql": _FEW_UPDATES,
        "td3_bc": _FEW_UPDATES | _TD3_BC,
        "rebrac": _FEW_UPDATES | _REBRAC,
        "cql": _FEW_UPDATES | _CQL,
        "decision_transformer": _SMALL_DT | {"steps": 2_000, "layers": 2, "batch_size": 32},
        "trajectory_transformer": _SMALL_TT
        | {"steps": 1_500, "batch_size": 32, "sequence": 4, "context": 3, "bins": 50}
        | {"horizon": 4, "beam_width": 4},
        "decision_diffuser": _SMALL_STATES | {"steps": 3_000},
        "diffuser": _SMALL_JOINT | {"steps": 5_000},
        "value_guide": _SMALL_GUIDE | {"steps": 3_000},
    },
}  # fmt: skip

# Environment -> section -> field -> value, at every preset: no penalty on an end where it may be a
# success; and IQL's scale of rewards and inverse temperature, as in its authors' code.
_ENDS_WITH_SUCCESS = {
    "trajectory_transformer": {"terminal_penalty": 0.0},
    "decision_diffuser": {"termination_penalty": 0.0},
    "value_guide": {"termination_penalty": 0.0},
}
_KITCHEN = _ENDS_WITH_SUCCESS | {"iql": {"temperature": 0.5}}
OF_ENVIRONMENT: dict[str, dict[str, dict[str, Any]]] = {
    "hopper": {"iql": {"scale_rewards": True}},
    "halfcheetah": {"iql": {"scale_rewards": True}},
    "walker2d": {"iql": {"scale_rewards": True}},
    "kitchen_partial": _KITCHEN,
    "kitchen_mixed": _KITCHEN,
    "own": _ENDS_WITH_SUCCESS,
}

# Environment or dataset name -> section -> field -> value, at preset `paper`. The target returns of
# Decision Transformer (Chen et al. 2021, Appendix A) suit D4RL's data; by default it is asked for
# the best recorded return. Decision Diffuser's return scales are those of the JAX port of its
# authors' code, which has one per dataset. Diffuser's settings are its authors' own; the attention
# that they add for halfcheetah is not implemented here. So are the Trajectory Transformer's; they
# train longer on medium-replay data (80 epochs of a million). ReBRAC's β₁ and β₂ are those of its
# authors' configs.
_LONGER = {"steps": 312_500}
PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "kitchen_partial": {"decision_diffuser": {"horizon": 56}},
    "kitchen_mixed": {"decision_diffuser": {"horizon": 56}},
    "hopper": {"decision_transformer": {"target_return": 3600.0}},
    "walker2d": {"decision_transformer": {"target_return": 5000.0}},
    "halfcheetah": {
        "decision_transformer": {"target_return": 6000.0},
        "diffuser": {
            "horizon": 4,
            "multipliers": (1, 4, 8),
            "guide_scale": 0.001,
            "unguided_steps": 4,
        },
        "value_guide": {"multipliers": (1, 4, 8)},
        "trajectory_transformer": {"horizon": 5},
    },
    "ant": {"trajectory_transformer": {"horizon": 5, "batch_size": 128, "steps": 390_000}},
    "hopper-medium-v2": {
        "decision_diffuser": {"return_scale": 350.0},
        "trajectory_transformer": {"replan_every": 5},
    },
    "hopper-medium-replay-v2": {
        "decision_diffuser": {"return_scale": 350.0},
        "rebrac": {"actor_weight": 0.05, "critic_weight": 0.5},
        "trajectory_transformer": _LONGER,
    },
    "hopper-medium-expert-v2": {
        "decision_diffuser": {"return_scale": 400.0},
        "rebrac": {"actor_weight": 0.1},
        "diffuser": {"guide_scale": 0.0001, "unguided_steps": 4},
    },
    "halfcheetah-medium-v2": {
        "decision_diffuser": {"return_scale": 600.0},
        "rebrac": {"actor_weight": 0.001},
    },
    "halfcheetah-medium-replay-v2": {
        "decision_diffuser": {"return_scale": 550.0},
        "rebrac": {"critic_weight": 0.001},
    },
    "halfcheetah-medium-expert-v2": {
        "decision_diffuser": {"return_scale": 1200.0},
        "rebrac": {"critic_weight": 0.1},
    },
    "walker2d-medium-v2": {
        "decision_diffuser": {"return_scale": 500.0},
        "rebrac": {"actor_weight": 0.05, "critic_weight": 0.1},
    },
    "walker2d-medium-replay-v2": {
        "decision_diffuser": {"return_scale": 500.0},
        "rebrac": {"actor_weight": 0.05},
        "trajectory_transformer": _LONGER,
    },
    "walker2d-medium-expert-v2": {
        "decision_diffuser": {"return_scale": 600.0},
        "trajectory_transformer": {"horizon": 5},
    },
}
