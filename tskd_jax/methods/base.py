"""What a method is, what it is given, and what it returns."""

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
from tskd_jax.stitching.stitch import Config as StitchingConfig
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
    """What every method can read: seeds, and a section for each part."""

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
        """The seeds of everything before the students: one, or as `seed_axis` says, all."""
        return self.seeds if self.seed_axis == "pipeline" else (self.seed,)

    def teacher_sampling(self, index: int) -> GeneratorSamplingConfig:
        """How the model in a `Teacher` is sampled: DDR-I, or what it is distilled into."""
        return self.few_steps.sampling(self.teachers.sampling(self.sampling, index))


@dataclass(frozen=True)
class NoFields:
    """The section of a method that has no fields of its own."""


@dataclass(frozen=True)
class Teacher:
    """A planner that a student is distilled from.

    Attributes:
      trajectory_generator: DDR-I, or where `config.few_steps` says so what it is distilled into,
        sampled as `config.teacher_sampling` has it; the seeds as leading axis.
      inverse_dynamics: f(s, s'), likewise.
      world: T(s, a), likewise, in which it imagines; None: its own plans are what happens.
    """

    trajectory_generator: Diffuser
    inverse_dynamics: InverseDynamics
    world: World | None = None


@dataclass(frozen=True)
class Outcome:
    """What a method has made. Lists have an entry for each pipeline seed, or one for all.

    Attributes:
      policies: one for each of `config.seeds`; of a method that ends in no student, actors that
        only the simulator can judge.
      data: what the students imitate, or what the actors were trained on.
      imagined: whole, as DDR-I imagined it; None where nothing is.
      accepted: what of it the ensemble finds likely.
      teachers: none, one, or where `config.teachers` says so several.
    """

    policies: Sequence[Policy | Actor]
    data: Sequence[Trajectories]
    imagined: Sequence[Trajectories] | None = None
    accepted: Sequence[Trajectories] | None = None
    teachers: Sequence[Teacher] = ()


EPISODE_STARTS, RECORDED_STATES = "episode starts", "recorded states"


@dataclass(frozen=True)
class Method:
    """A method by its name in `METHODS`.

    Attributes:
      title: in tables.
      summary: one line for `--help` and the docs.
      train: (experiment, the method's own section) -> outcome.
      fields: the class of its own section, `config.NAME`.
      needs_simulator: its policies plan or remember, so that nothing else judges them.
      imagines_from: where its teacher begins, in `EPISODE_STARTS` or `RECORDED_STATES`; "" where it
        has none.
      contradictions: own section -> what in it is valid alone and contradicts itself, in words.
      variants: name -> (title, overrides "section.field" -> value): the method with parts switched
        off, run beside it with `config.ablations`.
    """

    title: str
    summary: str
    train: Callable[["Experiment", Any], Outcome]
    fields: type = NoFields
    needs_simulator: bool = False
    imagines_from: str = ""
    contradictions: Callable[[Any], Iterable[str]] = lambda own: ()
    variants: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)


class Experiment:
    """What a method works with: a dataset, and stages that are computed once and kept.

    Attributes:
      config: of the run, or of this variant of a method.
      task: what is known of the environment.
      recorded: the dataset.
      seeds: of the pipeline; every trained part has them as leading axis.
    """

    def __init__(self, name: str, config: Config, task: Task, data: Trajectories, run: Run):
        self.name, self.config, self.task, self.recorded = name, config, task, data
        self.seeds = config.pipeline_seeds
        self._run = run

    def stage(
        self, function: Callable, config: Any, *inputs: Any, name: str = "", use: str = ""
    ) -> Any:
        """The result of `function(config, *inputs, …)`, computed once for what it is given.

        Args:
          function: (config, *inputs, keys, callbacks) -> (result, metrics); `keys` (S,) only where
            it asks for them.
          config: the sections that it reads.
          *inputs: results of other stages, data, or facts.
          name: on the screen, in metrics and for `--stop_after`; by default the function's own.
          use: of randomness, where one function is called for several; part of its name.
        """
        own = stage_name(function) + use
        keys = stage_keys(own, self.seeds)
        return self._run.stage(name or own, function, config, *inputs, keys=keys, seeds=self.seeds)

    def having(self, **sections: Any) -> "Experiment":
        """The same with these sections of the config."""
        config = dataclasses.replace(self.config, **sections)
        return Experiment(self.name, config, self.task, self.recorded, self._run)

    def for_each_seed(self) -> "Experiment":
        """The same with a pipeline for each of `config.seeds`: for what acts without a student."""
        return self.having(seed_axis="pipeline")

    def report(self, line: str) -> None:
        """A line for the user."""
        self._run.report(line)

    def kept(self, data: Trajectories) -> np.ndarray:
        """(E',) the episodes of that data that the filter keeps."""
        return selection.select_episodes(
            self.config.filter, data, self.recorded, self.task.episode_limit
        )

    def select(self, data: Sequence[Trajectories]) -> list[Trajectories]:
        """Of each seed, the trajectories worth imitating (the last line but one of Algorithm 4)."""
        return [
            one.select(
                selection.select_episodes(
                    self.config.filter, one, self.recorded, self.task.episode_limit, self.report
                )
            )
            for one in data
        ]

    def distil(self, data: Sequence[Trajectories], name: str = "") -> list[Policy]:
        """A student for each of `config.seeds` by behavioural cloning (section 3)."""
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
    """`train` of a part is named as the part, everything else as itself."""
    module = function.__module__.rpartition(".")[2]
    return module if function.__name__ == "train" else function.__name__


def stage_keys(name: str, seeds: Sequence[int]) -> jax.Array:
    """(S,) randomness by name of its use, so that no part's depends on which others ran."""
    use = zlib.crc32(name.encode()) & 0x7FFFFFFF
    return jnp.stack([jax.random.fold_in(jax.random.key(seed), use) for seed in seeds])


def integer_seeds(keys: jax.Array) -> list[int]:
    """Of each key a seed for what is not JAX: NumPy and simulators."""
    return [int(np.asarray(jax.random.randint(key, (), 0, 2**31 - 1))) for key in keys]
