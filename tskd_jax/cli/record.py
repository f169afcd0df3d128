"""tskd-jax record STUDENT [--beside=STUDENT] [--env=ID] [--episodes=10] [--every=4] [--out=FOLDER]

Films the best, the median and the worst of some episodes as animated WebP; --beside shows another
student from the same start. STUDENT is a file, or the folder of a run: then BC's student of the
same seed, if any, is shown beside it, and the films become part of report.html. --format=mp4 needs
the package imageio-ffmpeg. Without a GPU, a frame takes a tenth of a second or more.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from tskd_jax.cli.flags import parse_words
from tskd_jax.cli.student_files import student_file, task_of
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.run import files

FORMATS = ("webp", "mp4")
QUALITY = 60  # of WebP, in percent


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("beside", "", "Another student, from the same starts.", flag_values=values)
    flags.DEFINE_string(
        "env",
        "",
        "Gymnasium's id; by default the one in the student's contract.",
        flag_values=values,
    )
    flags.DEFINE_integer("episodes", 10, "To choose from.", 1, flag_values=values)
    flags.DEFINE_integer(
        "seed", 0, "Of the episodes, as of a run's evaluation.", 0, flag_values=values
    )
    flags.DEFINE_integer("every", 4, "Steps between two frames.", 1, flag_values=values)
    flags.DEFINE_integer("steps", 1000, "Most steps of a film.", 1, flag_values=values)
    flags.DEFINE_enum("format", "webp", list(FORMATS), "Of the films.", flag_values=values)
    flags.DEFINE_string(
        "out", "", "Folder; by default films/ beside the student.", flag_values=values
    )


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    del request
    values, words, shown = parse_words(argv, _define, __doc__ or "")
    if shown:
        return 0
    if len(words) != 1:
        raise ConfigError("tskd-jax record takes one student: its file, or the folder of a run")
    _record(student_file(words[0]), {name: values[name].value for name in values})
    return 0


def _record(student: Path, asked: dict[str, Any]) -> None:
    from tskd_jax.envs.film import film, frames_per_second
    from tskd_jax.policy import load_policy
    from tskd_jax.report import html
    from tskd_jax.run.progress import Bar

    policy = load_policy(student)
    environment = asked["env"] or task_of(student, policy)["gymnasium_id"]
    if not environment:
        raise ConfigError(f"{student}: does not say which environment it is for; add --env=ID")
    writer = _writer(asked["format"])
    beside = _beside(student, policy, asked["beside"])
    pair = [policy] + ([load_policy(beside)] if beside else [])
    out = Path(os.path.expanduser(asked["out"])) if asked["out"] else student.parent / html.FILMS
    found = _reported(student.parent, out)
    out.mkdir(parents=True, exist_ok=True)
    chosen = _chosen(pair, environment, asked["seed"], asked["episodes"])
    rate = frames_per_second(environment, asked["every"])
    for name, seed in chosen.items():
        reels, gained = [], []
        for number, one in enumerate(pair):
            bar = Bar(sys.stderr, f"{name}{' beside' * number}")
            try:
                frames, total = film(
                    *(one, environment, seed, asked["every"], asked["steps"]),
                    lambda step, bar=bar: bar.update(step, asked["steps"], {}),
                )
            except ConfigError:
                # A viewer that was not fully constructed raises again when it is deleted.
                sys.unraisablehook = lambda _: None
                raise
            bar.update(asked["steps"], asked["steps"], {})
            reels.append(frames)
            gained.append(total)
        path = out / f"{name}_episode.{asked['format']}"
        writer(path, side_by_side(reels), rate)
        words = f"return {gained[0]:.4g}"
        if beside:
            words += f", on the right {beside.parent.name}/{beside.name}: {gained[1]:.4g}"
        print(f"{path}: start {seed}, {words}")
    if found:
        print(f"report: {html.write(student.parent, found)}")


def _chosen(pair: Sequence[Any], environment: str, seed: int, episodes: int) -> dict[str, int]:
    """Name -> seed of the best, median and worst episode; fewer if there are fewer episodes.

    Raises:
      ConfigError: a student does not fit the environment, or its episodes have no limit.
    """
    from tskd_jax.envs.environment import make_environment
    from tskd_jax.envs.fleet import Fleet
    from tskd_jax.envs.own import facts
    from tskd_jax.envs.simulator import episode_seeds
    from tskd_jax.evaluation.rollout import play, started

    made = make_environment(environment)
    sizes = tuple(space.shape for space in (made.observation_space, made.action_space))
    made.close()
    for one in pair:
        own = (len(one.weights[0]),), one.biases[-1].shape
        if own != sizes:
            raise ConfigError(
                f"{environment} has observations of shape {sizes[0]} and actions of {sizes[1]}; "
                f"the student takes {own[0]} and gives {own[1]}"
            )
    seeds = episode_seeds(seed, episodes)
    limit = facts(environment)[2]
    if not limit:
        raise ConfigError(
            f"{environment}: its episodes have no limit, and may never end; register it with "
            "max_episode_steps"
        )
    with Fleet(environment) as fleet:
        returns, _ = play(started(pair[0]), fleet, seeds, limit)
    order = np.argsort(-returns, kind="stable")
    places = {"best": 0, "median": (episodes - 1) // 2, "worst": episodes - 1}
    if episodes < len(places):
        places = dict(list(places.items())[::2][:episodes])
    return {name: seeds[int(order[place])] for name, place in places.items()}


def _beside(student: Path, policy: Any, asked: str) -> Path | None:
    """The other student: the requested one, or BC's of the same run and seed; None without one."""
    if asked:
        return student_file(asked)
    seed = policy.contract.seed if policy.contract else None
    found = student.parent / "students" / "bc" / f"seed_{seed}.npz"
    return found if found.is_file() else None


def side_by_side(reels: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Join the frames of several films; a film that has ended shows its last frame."""
    length = max(map(len, reels))
    padded = [[*reel, *[reel[-1]] * (length - len(reel))] for reel in reels]
    return [np.concatenate(frames, 1) for frames in zip(*padded, strict=True)]


def _writer(format_: str) -> Any:
    """The function that writes a film in the given format.

    Raises:
      ConfigError: the package that MP4 needs is not installed.
    """
    if format_ == "webp":
        return write_webp
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "--format=mp4 needs the package imageio-ffmpeg; install tskd_jax[mp4], or leave it out"
        ) from error

    def write(path: Path, frames: list[np.ndarray], rate: float) -> None:
        size, kind = frames[0].shape[1::-1], ["-f", "mp4"]
        options = {"fps": rate, "macro_block_size": 2, "output_params": kind}
        with files.replacing(path) as temporary:
            video = imageio_ffmpeg.write_frames(str(temporary), size, **options)
            video.send(None)
            for frame in frames:
                video.send(np.ascontiguousarray(frame))
            video.close()

    return write


def write_webp(path: Path, frames: list[np.ndarray], rate: float) -> None:
    """Write an animated WebP that loops."""
    from PIL import Image

    first, *others = map(Image.fromarray, frames)
    with files.replacing(path) as temporary:
        first.save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=others,
            duration=round(1000 / rate),
            loop=0,
            quality=QUALITY,
        )


def _reported(folder: Path, out: Path) -> dict[str, Any] | None:
    """The summary of the run whose report will contain the films; None if there is none.

    Raises:
      WorkdirError: the summary is damaged.
    """
    from tskd_jax.report import html, summary

    if out == folder / html.FILMS and (folder / "summary.json").exists():
        return summary.read(folder)
    return None
