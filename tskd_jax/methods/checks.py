"""Checks for config values that are valid alone but contradict each other."""

from collections.abc import Iterator, Mapping
from typing import Any

from tskd_jax.envs.entries import OWN
from tskd_jax.methods.base import RECORDED_STATES, Config, Method
from tskd_jax.nn.unet import GROUPS


def contradictions(
    config: Config, methods: Mapping[str, Method], own: Mapping[str, Any]
) -> Iterator[str]:
    """Describe each contradiction, and what to choose instead.

    Args:
      config: the config to check.
      methods: the methods that it runs, by name.
      own: the methods' own sections, by name.
    """
    yield from _of_networks(config)
    yield from _of_sampling(config)
    for name, method in methods.items():
        yield from method.contradictions(own[name])
    generator, dynamics = config.trajectory_generator, config.dynamics
    if generator.condition == "advantage" and generator.discount == 1:
        yield (
            "config.trajectory_generator.discount=1 with condition='advantage': the return of what "
            "was only cut short has no bound; choose less than 1"
        )
    yield from config.teachers.contradictions(config.sampling)
    whole = config.imagination.trajectories * config.stitching.epochs
    if config.teachers.kept > whole:
        yield (
            f"config.teachers.count={config.teachers.count} is more than the {whole} trajectories "
            "that they imagine together (config.imagination.trajectories for each of "
            "config.stitching.epochs): some would be trained for nothing"
        )
    yield from config.few_steps.contradictions(generator, config.sampling)
    if config.stitching.max_disagreement_quantile and config.reward_generator.members < 2:
        yield (
            "config.stitching.max_disagreement_quantile="
            f"{config.stitching.max_disagreement_quantile} with one DDR-II: nothing can disagree; "
            "choose config.reward_generator.members=3"
        )
    elites = {"dynamics": dynamics.elites}
    if "mbts" in methods:
        elites["mbts"] = own["mbts"].elites
    for name, count in elites.items():
        if count > dynamics.members:
            yield (
                f"config.{name}.elites={count} is more than "
                f"config.dynamics.members={dynamics.members}"
            )
    yield from _without_world(config)
    if config.imagination.world != "none" and config.imagination.mode == "environment":
        yield (
            "config.imagination.mode='environment' executes actions in the simulator, "
            f"world='{config.imagination.world}' in a learned model; choose one"
        )
    environment = config.environment
    simulated = environment.name != OWN or environment.gymnasium_id
    if not simulated and not config.referee.episodes:
        yield (
            "config.referee.episodes=0 with no simulator (config.environment.gymnasium_id is "
            "empty): nothing would judge the students; choose 40"
        )
    for name, method in methods.items():
        if method.needs_simulator and not simulated:
            yield (
                f"config.methods={name} ends in no student, and nothing but a simulator judges it; "
                "set config.environment.gymnasium_id, or leave it out"
            )
        if method.imagines_from == RECORDED_STATES and config.imagination.mode == "environment":
            yield (
                "config.imagination.mode='environment' starts where the simulator does; "
                f"config.methods={name} imagines from recorded states: choose mode='imagine'"
            )
    if not simulated and config.imagination.mode == "environment":
        yield "config.imagination.mode='environment' without a simulator; choose mode='imagine'"
    if len(set(config.seeds)) < len(config.seeds):
        yield f"config.seeds={config.seeds} names a seed twice"


def _without_world(config: Config) -> Iterator[str]:
    """What needs a learned world to imagine in, where there is none: all in one line."""
    teachers, rounds = config.teachers, config.aggregation.rounds
    action_noise, noise = config.imagination.action_noise, config.world.noise
    needs = []  # (what needs it, what would do without)
    if teachers.kept < teachers.count:
        needs.append((f"teachers.keep='best' of count={teachers.count}", "teachers.count=1"))
    if rounds:
        needs.append((f"aggregation.rounds={rounds}", "aggregation.rounds=0"))
    if action_noise:
        needs.append((f"imagination.action_noise={action_noise}", "imagination.action_noise=0"))
    if noise:
        needs.append((f"world.noise={noise}", "world.noise=0"))
    if needs and config.imagination.world == "none":
        what, without = (
            " and ".join(f"config.{one}" for one in column) for column in zip(*needs, strict=True)
        )
        yield (
            f"config.imagination.world=none, but there must be a world for {what}; choose mean or "
            f"random_member, or {without}"
        )


def _of_networks(config: Config) -> Iterator[str]:
    for name in ("trajectory_generator", "reward_generator"):
        part = getattr(config, name)
        multiple = 2 ** (len(part.multipliers) - 1)
        positions = -(-part.horizon // multiple) * multiple
        if part.features * part.multipliers[0] * positions <= GROUPS:
            yield (
                f"config.{name}.features={part.features} with horizon={part.horizon}: each of the "
                f"network's {GROUPS} groups would normalise one number, which is 0 then whatever "
                "the input is; choose 32"
            )


def _of_sampling(config: Config) -> Iterator[str]:
    generator, sampling = config.trajectory_generator, config.sampling
    least = generator.context + sampling.replan_every
    if least > generator.horizon:
        yield (
            f"config.trajectory_generator.horizon={generator.horizon} is too short for "
            f"context={generator.context} and config.sampling.replan_every="
            f"{sampling.replan_every}; it must be at least {least}"
        )
    known = generator.history_noise if generator.noise_level_input else 0.0
    if sampling.history_noise > known:
        yield (
            f"config.sampling.history_noise={sampling.history_noise} is more than DDR-I knows: "
            f"{known}, by config.trajectory_generator.history_noise and noise_level_input"
        )
    if sampling.warm_start > sampling.start:
        yield (
            f"config.sampling.warm_start={sampling.warm_start} is above "
            f"config.sampling.start={sampling.start}; a warm start must begin lower"
        )
    for model, most, section, sampler in (
        ("trajectory_generator", generator.diffusion_steps, "sampling", sampling),
        (
            *("reward_generator", config.reward_generator.diffusion_steps),
            *("reward_sampling", config.reward_sampling),
        ),
    ):
        yield from sampler.contradictions(
            f"config.{section}.steps", f"config.{model}.diffusion_steps", most
        )
