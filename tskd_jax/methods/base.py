"""The interface of a method: its config, its inputs (`Experiment`) and its result (`Outcome`)."""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.data import selection
from tskd_jax.data.load import Config as DatasetConfig
from tskd_jax.data.selection import Config as FilterConfig
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.entries import Config as EnvironmentConfig
from tskd_jax.envs.simulator import Actor
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import NOT_NEGATIVE, integers, one_of
from tskd_jax.fields import field as config_field
from tskd_jax.models import cloning
from tskd_jax.models.baseline import Config as BaselineConfig
from tskd_jax.models.cloning import Config as StudentConfig
from tskd_jax.models.contest import Config as SelectionConfig
from tskd_jax.models.cvae import Config as CVAEConfig
from tskd_jax.models.dynamics import Config as DynamicsConfig
from tskd_jax.models.inverse_dynamics import Config as InverseDynamicsConfig
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.models.referee import Config as RefereeConfig
from tskd_jax.models.termination import Config as TerminationConfig
from tskd_jax.models.value import Config as ValueConfig
from tskd_jax.models.wgan import Config as WGANConfig
from tskd_jax.models.world import Config as WorldConfig
from tskd_jax.models.world import World
from tskd_jax.policy import Policy
from tskd_jax.run.run import Run
from tskd_jax.stitching.successors import Config as StitchingConfig
from tskd_jax.teacher.aggregation import Config as AggregationConfig
from tskd_jax.teacher.diffuser import Diffuser, SamplingConfig
from tskd_jax.teacher.few_steps import Config as FewStepsConfig
from tskd_jax.teacher.imagination import Config as ImaginationConfig
from tskd_jax.teacher.pool import Config as TeachersConfig
from tskd_jax.teacher.reward_generator import Config as RewardGeneratorConfig
from tskd_jax.teacher.trajectory_generator import Config as GeneratorConfig
from tskd_jax.teacher.trajectory_generator import SamplingConfig as GeneratorSamplingConfig
from tskd_jax.teacher.value_guide import Config as ValueGuideConfig


@dataclass(frozen=True)
class Config:
    """The config that every method can read: seeds, and a section for each part."""

    seed: int = config_field(
        0, NOT_NEGATIVE, "of everything but the students, where seed_axis is student"
    )
    seeds: tuple[int, ...] = config_field(
        (0, 1, 2, 3, 4),
        integers(0, "distinct whole numbers ≥ 0"),
        "of the students, or of the whole pipeline",
    )
    seed_axis: str = config_field(
        "student",
        one_of(["student", "pipeline"]),
        "what is made once for each of `seeds`: the students, from one stitched dataset; or "
        "everything, for an error bar over the whole method",
    )
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    termination: TerminationConfig = field(default_factory=TerminationConfig)
    inverse_dynamics: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    value: ValueConfig = field(default_factory=ValueConfig)
    cvae: CVAEConfig = field(default_factory=CVAEConfig)
    wgan: WGANConfig = field(default_factory=WGANConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    trajectory_generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    reward_generator: RewardGeneratorConfig = field(default_factory=RewardGeneratorConfig)
    teachers: TeachersConfig = field(default_factory=TeachersConfig)
    sampling: GeneratorSamplingConfig = field(default_factory=GeneratorSamplingConfig)
    few_steps: FewStepsConfig = field(default_factory=FewStepsConfig)
    reward_sampling: SamplingConfig = field(default_factory=SamplingConfig)
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig)
    stitching: StitchingConfig = field(default_factory=StitchingConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    referee: RefereeConfig = field(default_factory=RefereeConfig)
    value_guide: ValueGuideConfig = field(default_factory=ValueGuideConfig)

    @property
    def pipeline_seeds(self) -> tuple[int, ...]:
        """The seeds of everything before the students: `seed`, or all `seeds` (see `seed_axis`)."""
        return self.seeds if self.seed_axis == "pipeline" else (self.seed,)

    def teacher_sampling(self, index: int) -> GeneratorSamplingConfig:
        """How to sample the model of teacher `index`: DDR-I, or the network distilled from it."""
        return self.few_steps.sampling(self.teachers.sampling(self.sampling, index))


@dataclass(frozen=True)
class NoFields:
    """The section of a method without fields of its own."""


@dataclass(frozen=True)
class Teacher:
    """A planner from which a student is distilled. All parts have the seeds as leading axis.

    Attributes:
      trajectory_generator: DDR-I, or with `config.few_steps` the network distilled from it;
        `config.teacher_sampling` says how to sample it.
      inverse_dynamics: f(s, s').
      world: T(s, a), in which the teacher imagines; None: its own plans are taken to come true.
    """

    trajectory_generator: Diffuser
    inverse_dynamics: InverseDynamics
    world: World | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of a method. Each list of data has one entry per pipeline seed, or one for all.

    Attributes:
      policies: one for each of `config.seeds`; for a method without students, actors that only the
        simulator can judge.
      data: what the students imitate, or what the actors were trained on.
      imagined: everything that DDR-I imagined; None if the method imagines nothing.
      accepted: the part of `imagined` that the ensemble finds likely.
      teachers: `config.teachers.kept` of them; empty if the method has none.
    """

    policies: Sequence[Policy | Actor]
    data: Sequence[Trajectories]
    imagined: Sequence[Trajectories] | None = None
    accepted: Sequence[Trajectories] | None = None
    teachers: Sequence[Teacher] = ()


EPISODE_STARTS, RECORDED_STATES = "episode starts", "recorded states"


@dataclass(frozen=True)
class Method:
    """A method, registered by name in `METHODS`.

    Attributes:
      title: its name in tables; `{field}` in it stands for a value of its own section.
      summary: one line for `--help` and the docs.
      train: (experiment, the method's own section) -> outcome.
      fields: the class of its own section, `config.NAME`.
      needs_simulator: whether only a simulator can judge its policies, because they plan or have a
        memory.
      imagines_from: where its teacher starts, `EPISODE_STARTS` or `RECORDED_STATES`; "" if it has
        no teacher.
      contradictions: own section -> a description of each contradiction between its values.
      variants: name -> (title, overrides "section.field" -> value): the method with parts switched
        off, which `config.ablations` runs as well.
    """

    title: str
    summary: str
    train: Callable[["Experiment", Any], Outcome]
    fields: type = NoFields
    needs_simulator: bool = False
    imagines_from: str = ""
    contradictions: Callable[[Any], Iterable[str]] = lambda own: ()
    variants: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)

    def title_for(self, own: Any) -> str:
        """The title with the values of such a section."""
        return self.title.format(**vars(own))


class Experiment:
    """What a method works with: a dataset, and stages that are computed once and cached.

    Attributes:
      name: of the method or variant; part of the names of its own stages.
      config: the config of the run, or of this variant of a method.
      task: what is known of the environment.
      recorded: the dataset.
      seeds: the pipeline's seeds; every trained part has them as leading axis.
    """

    def __init__(self, name: str, config: Config, task: Task, data: Trajectories, run: Run):
        self.name, self.config, self.task, self.recorded = name, config, task, data
        self.seeds = config.pipeline_seeds
        self._run = run

    def stage(
        self, function: Callable, config: Any, *inputs: Any, name: str = "", use: str = ""
    ) -> Any:
        """The result of `function(config, *inputs, …)`, computed once for equal arguments.

        Args:
          function: (config, *inputs, keys, callbacks) -> (result, metrics); `keys` (S,) are passed
            only if it has that parameter.
          config: the sections of the config that it reads.
          *inputs: results of other stages, data, or facts.
          name: shown on the screen, in metrics and for `--stop_after`; by default `stage_name`.
          use: separates the random keys of several calls of one function; appended to its name.
        """
        own = stage_name(function) + use
        keys = stage_keys(own, self.seeds)
        return self._run.stage(name or own, function, config, *inputs, keys=keys, seeds=self.seeds)

    def having(self, **sections: Any) -> "Experiment":
        """A copy with these sections of the config replaced."""
        config = dataclasses.replace(self.config, **sections)
        return Experiment(self.name, config, self.task, self.recorded, self._run)

    def for_each_seed(self) -> "Experiment":
        """A copy with one pipeline per seed of `config.seeds`, for methods without a student."""
        return self.having(seed_axis="pipeline")

    def report(self, line: str) -> None:
        """Show the user a line."""
        self._run.report(line)

    def kept(self, data: Trajectories) -> np.ndarray:
        """(E',) indices of the episodes of `data` that the filter keeps."""
        return selection.select_episodes(
            self.config.filter, data, self.recorded, self.task.episode_limit
        )

    def select(self, data: Sequence[Trajectories]) -> list[Trajectories]:
        """For each seed, keep what is worth imitating (the last line but one of Algorithm 4)."""
        return [
            one.select(
                selection.select_episodes(
                    self.config.filter, one, self.recorded, self.task.episode_limit, self.report
                )
            )
            for one in data
        ]

    def distil(self, data: Sequence[Trajectories], name: str = "") -> list[Policy]:
        """Train a student for each of `config.seeds` by behavioural cloning (section 3)."""
        one = list(data)[:1] if len(self.seeds) == 1 else list(data)
        return self.stage(
            cloning.train,
            self.config.student,
            one,
            self.task,
            self.config.seeds,
            name=f"student.{name or self.name}",
        )


def stage_name(function: Callable) -> str:
    """The name of a stage: of a `train` function its module's, else the function's own."""
    module = function.__module__.rpartition(".")[2]
    return module if function.__name__ == "train" else function.__name__


def stage_keys(name: str, seeds: Sequence[int]) -> jax.Array:
    """(S,) random keys, derived from a use's name: no part's keys depend on which others ran."""
    use = zlib.crc32(name.encode()) & 0x7FFFFFFF
    return jnp.stack([jax.random.fold_in(jax.random.key(seed), use) for seed in seeds])


def integer_seeds(keys: jax.Array) -> list[int]:
    """An integer seed from each key, for NumPy and simulators."""
    return [int(np.asarray(jax.random.randint(key, (), 0, 2**31 - 1))) for key in keys]
