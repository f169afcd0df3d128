"""Configs: every file and preset loads, every field is checked, mistakes get one line."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from tskd_jax import config as config_module
from tskd_jax.cli.fields import document
from tskd_jax.cli.flags import check_name
from tskd_jax.config import (
    FIELDS,
    default_config,
    finalize,
    from_plain,
    make_config,
    override,
    to_plain,
)
from tskd_jax.errors import ConfigError
from tskd_jax.methods import METHODS
from tskd_jax.presets import PRESETS

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ("hopper", "halfcheetah", "walker2d")
WITHOUT_WORLD = {"imagination.world": "none", "imagination.action_noise": 0.0, "world.noise": 0.0}


def load(environment: str, argument: str = "") -> ConfigDict:
    spec = importlib.util.spec_from_file_location(environment, ROOT / f"configs/{environment}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_config_is_valid(environment, preset):
    config, _ = finalize(load(environment, preset))
    assert config.environment.name == environment


def test_the_paper_preset_is_appendix_b():
    config = load("hopper", "paper,medium-expert")
    assert config.dataset.name == "hopper-medium-expert-v2"
    for diffuser in (config.trajectory_generator, config.reward_generator):
        assert diffuser.features == 128
        assert tuple(diffuser.multipliers) == (1, 4, 8)
        assert diffuser.diffusion_steps == 200
        assert diffuser.drop_condition == 0.25
        assert (diffuser.steps, diffuser.batch_size) == (1_000_000, 32)
        assert diffuser.learning_rate == 2e-4
        assert not diffuser.relative
        assert diffuser.target_weight == 1
    assert not config.trajectory_generator.vary_history
    assert config.trajectory_generator.history_noise == 0
    assert not config.trajectory_generator.noise_level_input
    assert config.trajectory_generator.horizon - config.trajectory_generator.context == 100
    assert config.sampling.sampler == "ancestral"
    assert (config.sampling.steps, config.sampling.replan_every, config.sampling.start) == (
        200,
        1,
        1.0,
    )
    assert config.sampling.temperature == 0.5
    assert config.sampling.guidance in (1.2, 1.4, 1.6, 1.8)
    assert tuple(config.inverse_dynamics.hidden) == (512, 512)
    assert tuple(config.dynamics.hidden) == (300, 300, 300)
    assert (config.dynamics.members, config.dynamics.elites) == (7, 3)
    assert (config.dynamics.learning_rate, config.dynamics.batch_size) == (3e-4, 256)
    assert tuple(config.value.hidden) == (256, 256)
    assert config.imagination.trajectories == 300
    assert config.imagination.min_likelihood_quantile == 0
    assert config.stitching.epochs == 2
    assert config.stitching.acceptance == 0.1
    assert config.stitching.allow_cycles
    assert config.methods == "bc,filtered_bc,tskd"
    assert (config.stitching.rule, config.stitching.tolerance) == ("value_first", 0)
    assert config.filter.rule == "margin"
    assert 500 <= config.filter.margin <= 1000
    assert tuple(config.student.hidden) == (256, 256)


@pytest.mark.parametrize(
    ("environment", "radius"), [("hopper", 0.1), ("walker2d", 1.0), ("halfcheetah", 3.0)]
)
def test_radius_of_each_task(environment, radius):
    assert load(environment).stitching.radius == radius


@pytest.mark.parametrize(
    ("environment", "level", "scale", "horizon"),
    [
        ("hopper", "medium-expert", 400, 100),
        ("halfcheetah", "medium-replay", 550, 100),
        ("kitchen_mixed", "mixed", 0, 56),
    ],
)
def test_what_was_published_for_one_environment_or_dataset(environment, level, scale, horizon):
    for preset, expected in (("paper", (scale, horizon)), ("quick", (0, 4))):
        section = make_config(environment, f"{preset},{level}").decision_diffuser
        assert (section.return_scale, section.horizon) == expected


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        ("paper,medium-replay", (0.05, 0.5)),
        ("paper,medium", (0.01, 0.01)),
        ("quick,medium-replay", (0.1, 0.1)),
    ],
)
def test_rebrac_weighs_imitation_as_published_for_the_dataset(words, weights):
    config = make_config("hopper", words).rebrac
    assert (config.actor_weight, config.critic_weight) == weights


def test_diffuser_on_halfcheetah_is_as_published():
    config = make_config("halfcheetah", "paper,medium")
    assert (config.diffuser.horizon, config.diffuser.guide_scale) == (4, 0.001)
    assert config.diffuser.multipliers == config.value_guide.multipliers == (1, 4, 8)


def test_default_is_quick_on_the_embedded_data():
    config = load("hopper")
    assert config.dataset.name == "hopper-sac-replay"
    assert config.label == "hopper-embedded-quick"
    assert config == load("hopper", "quick,embedded")
    assert config == load("hopper", "embedded, quick")


def test_unknown_preset_or_level():
    with pytest.raises(ConfigError, match=r"'tiny' is neither a preset .*paper, small, quick"):
        load("hopper", "tiny")
    with pytest.raises(ConfigError, match="embedded"):
        load("ant", "embedded")


def test_steps_multiplier_scales_every_training():
    config = load("hopper")
    config.steps_multiplier = 0.01
    final, options = finalize(config)
    assert {"world", "student", "trajectory_generator", "iql"} <= set(config_module.TRAININGS)
    for section in config_module.TRAININGS:
        steps = (final.own | vars(final))[section].steps
        assert steps == max(1, round(config[section].steps * 0.01))
    assert config.student.steps == load("hopper").student.steps  # the argument is left alone
    # So that the same config is the same again, and JSON does not scale it twice.
    assert finalize(config) == (final, options)
    assert from_plain(json.loads(json.dumps(to_plain(final)))) == final


def test_equal_numbers_are_equal_however_they_are_written():
    options, written = make_config("hopper", "quick"), make_config("hopper", "quick")
    written.selection.shares = (np.float64(0.1),)
    written.seeds = tuple(np.arange(5))
    written.student.hidden = (np.int64(256), 256)
    one, other = (finalize(config)[0] for config in (options, written))
    assert repr(one) == repr(other)
    shares = make_config("hopper", "small")
    shares.selection.shares = (0.5, 1)
    assert repr(finalize(shares)[0].selection.shares) == "(0.5, 1.0)"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("stitching.raduis", "stitching.radius"),
        ("stiching.radius", "stitching.radius"),
        ("sampling.guidence", "sampling.guidance"),
        ("seedz", "seed"),
    ],
)
def test_unknown_field_names_the_nearest(name, near):
    with pytest.raises(ConfigError, match=rf"config\.{name} does not exist.*config\.{near}"):
        check_name(name)


def test_a_section_is_not_a_field():
    with pytest.raises(ConfigError, match=r"section.*stitching\.radius"):
        check_name("stitching")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sampling.guidance", -1.0),
        ("trajectory_generator.features", 12),
        ("trajectory_generator.kernel_size", 4),
        ("stitching.rule", "best"),
        ("filter.share", 0.0),
        ("selection.shares", (0.1, 2.0)),
        ("student.steps", 0),
        ("seeds", ()),
        ("environment.name", "humanoid"),
        ("reward_sampling.start", 0.0),
        ("methods", "bc,bcc"),
        ("methods", "bc,bc"),
        ("methods", ""),
    ],
)
def test_out_of_range_names_field_value_and_range(field, value):
    config = load("hopper")
    section, _, key = field.rpartition(".")
    (config[section] if section else config)[key] = value
    with pytest.raises(ConfigError) as caught:
        finalize(config)
    message = str(caught.value)
    assert f"config.{field}={value!r}" in message
    assert "allowed:" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling.replan_every": 50}, "horizon"),
        ({"sampling.steps": 500}, "diffusion_steps"),
        ({"dynamics.elites": 9}, "members"),
        ({"methods": "mbts", "dynamics.members": 4}, "mbts.elites=5"),
        (
            {
                "reward_generator.features": 8,
                "reward_generator.multipliers": (1,),
                "reward_generator.horizon": 1,
            },
            "would normalise one number",
        ),
        ({"imagination.mode": "environment"} | WITHOUT_WORLD, "choose mode='imagine'"),
        ({"aggregation.rounds": 1, "imagination.world": "none"}, "a world for config.aggregation"),
        (
            WITHOUT_WORLD | {"imagination.action_noise": 0.1, "world.noise": 0.06},
            "or config.imagination.action_noise=0 and config.world.noise=0",
        ),
        ({"imagination.mode": "environment", "imagination.world": "mean"}, "choose one"),
        ({"seeds": (1, 1)}, "twice"),
        ({"sampling.sampler": "ancestral", "sampling.start": 1.0}, "ddim"),
    ],
)
def test_contradictions(changes, words):
    config = load("hopper")
    for field, value in changes.items():
        section, _, key = field.rpartition(".")
        (config[section] if section else config)[key] = value
    with pytest.raises(ConfigError, match=words):
        finalize(config)


def test_fields_and_defaults_are_the_same_set():
    flat = []
    for key, value in default_config().to_dict().items():
        flat += [f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key]
    assert sorted(flat) == sorted(FIELDS)


def test_an_override_is_checked_and_changes_nothing_else():
    config, _ = finalize(load("hopper"))
    changed = override(config, {"stitching.radius": 0.2, "tskd_one_step.substitute": True})
    assert changed.stitching.radius == 0.2
    assert changed.own["tskd_one_step"].substitute
    assert override(changed, {"stitching.radius": 0.1, "tskd_one_step.substitute": False}) == config
    with pytest.raises(ConfigError, match=r"stitching\.radius=-1\.0 is out of range"):
        override(config, {"stitching.radius": -1.0})


@pytest.mark.parametrize("name", ["radius", "student"])
def test_a_config_with_a_field_too_many_or_too_few_is_refused(name):
    plain = to_plain(finalize(load("hopper"))[0])
    if name == "radius":
        del plain["stitching"]["radius"]
    else:
        plain["student"]["beard"] = 1
    with pytest.raises(ConfigError, match=f"unknown or missing.*{name}"):
        from_plain(plain)


def test_every_variant_of_every_method_is_a_config():
    config, _ = finalize(load("hopper"))
    for method in METHODS.values():
        for _, changes in method.variants.values():
            assert override(config, changes) != config


def test_every_row_of_the_documented_fields_has_its_cells():
    """A meaning such as E[s' | s] does not end its cell."""
    rows = [line for line in document().splitlines() if line.startswith("| `trajectory_generator.")]
    assert any("E[s' \\| s]" in row for row in rows)
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {8}


def test_the_documented_fields_are_these():
    assert (ROOT / "docs/config.md").read_text() == document()
