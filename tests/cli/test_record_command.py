"""Films of a student: which episodes, how many frames, whose beside it, and what is refused."""

import copy
import itertools

import gymnasium
import numpy as np
import pytest
from PIL import Image
from report.finished import make_run

from tskd_jax.cli import record
from tskd_jax.cli.student_files import find, task_of
from tskd_jax.contract import Contract
from tskd_jax.envs import film
from tskd_jax.errors import ConfigError, WorkdirError
from tskd_jax.main import main
from tskd_jax.policy import Bounds, Policy, load_policy, save_policy
from tskd_jax.run import files


def student(seed=0, observations=11, actions=3):
    rng = np.random.default_rng(seed)
    sizes = (observations, 8, actions)
    weights = [rng.normal(size=pair).astype(np.float32) for pair in itertools.pairwise(sizes)]
    biases = [np.zeros(size, np.float32) for size in sizes[1:]]
    return Policy(tuple(weights), tuple(biases), Bounds.symmetric(1.0, actions))


@pytest.fixture
def run(tmp_path):
    """A folder as a run leaves it, of a version whose students say nothing of themselves."""
    save_policy(tmp_path / "student.npz", student())
    task = {"gymnasium_id": "Hopper-v4"}
    (tmp_path / "config.json").write_text("{}")
    files.write_sealed(tmp_path / "manifest.json", {"notes": {"task": task}})
    whole = make_run(tmp_path / "whole", {"bc": [[1.0]]})
    (whole / "summary.json").rename(tmp_path / "summary.json")
    return tmp_path


def endless() -> gymnasium.envs.registration.EnvSpec:
    """A hopper whose episodes have no limit."""
    spec = copy.deepcopy(gymnasium.spec("Hopper-v4"))
    spec.id, spec.max_episode_steps = "TskdEndless-v0", None
    return spec


@pytest.fixture
def drawn(monkeypatch):
    """Nothing is drawn, which needs a driver: a frame is of one colour, the step's."""

    def reel(policy, environment, seed, every, steps, on_step):
        on_step(1)
        reels.append((policy, environment, seed))
        return [np.full((4, 6, 3), 40 * i, np.uint8) for i in range(3)], float(seed)

    reels = []
    monkeypatch.setattr(film, "film", reel)
    return reels


def test_best_median_and_worst_of_a_run(run, drawn, monkeypatch, capsys):
    monkeypatch.setattr("tskd_jax.report.html.write", lambda folder, found: folder / "report.html")
    assert main(["tskd-jax", "record", str(run), "--episodes=5"]) == 0
    names = [f"{name}_episode.webp" for name in ("best", "median", "worst")]
    assert sorted(path.name for path in (run / "films").iterdir()) == names
    assert {environment for _, environment, _ in drawn} == {"Hopper-v4"}
    assert len({seed for _, _, seed in drawn}) == 3
    with Image.open(run / "films" / names[0]) as image:
        assert image.n_frames == 3
        assert image.size == (6, 4)
        assert image.info["loop"] == 0
    out = capsys.readouterr().out
    assert f"start {drawn[0][2]}, return" in out
    assert "report.html" in out


def test_another_student_stands_beside_it(run, drawn, tmp_path):
    other = tmp_path / "other.npz"
    save_policy(other, student(1))
    argv = ["tskd-jax", "record", str(run), f"--beside={other}", "--episodes=1"]
    assert main([*argv, f"--out={tmp_path / 'films of two'}"]) == 0
    assert [seed for _, _, seed in drawn] == [drawn[0][2]] * 2
    with Image.open(tmp_path / "films of two" / "best_episode.webp") as image:
        assert image.size == (12, 4)


def test_films_of_two_lengths_side_by_side():
    short, long = ([np.full((2, 2, 3), i, np.uint8) for i in range(n)] for n in (2, 4))
    frames = record.side_by_side([short, long])
    assert [frame[0, 0, 0] for frame in frames] == [0, 1, 1, 1]
    assert [frame[0, 2, 0] for frame in frames] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--env=CartPole-v1"], "observations of shape (4,)"),
        (["--env=Nowhere-v0"], "Gymnasium cannot make it"),
        (["--env=TskdEndless-v0"], "TskdEndless-v0: its episodes have no limit, and may never end"),
        (["--episodes=0"], "episodes"),
        (["--format=gif"], "webp"),
        (["more"], "takes one student"),
    ],
)
def test_what_is_refused(run, flags, said, capfd, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "TskdEndless-v0", endless())
    assert main(["tskd-jax", "record", str(run), *flags]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line
    assert not (run / "films" / "best_episode.webp").exists()


def test_a_student_that_does_not_say_where_it_acts(tmp_path, capfd):
    save_policy(tmp_path / "alone.npz", student())
    assert main(["tskd-jax", "record", str(tmp_path / "alone.npz")]) == 2
    assert "add --env=ID" in capfd.readouterr().err


def test_a_damaged_run_is_refused_before_anything_is_drawn(tmp_path, capfd):
    save_policy(tmp_path / "student.npz", student())
    (tmp_path / "summary.json").write_text('{"config"')
    assert main(["tskd-jax", "record", str(tmp_path), "--env=Hopper-v4"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "summary.json: damaged" in line
    assert not (tmp_path / "films").exists()


def test_every_fourth_step_and_the_last_are_drawn(monkeypatch):
    """By the simulator itself, where there is a driver."""
    monkeypatch.setenv("MUJOCO_GL", "egl")
    steps = []
    try:
        frames, gained = film.film(student(), "Hopper-v4", 3, 4, 10, steps.append)
    except ConfigError as error:
        pytest.skip(f"nothing can be drawn here: {error}")
    assert len(frames) == 1 + -(-len(steps) // 4)
    assert frames[0].shape == (film.HEIGHT, film.WIDTH, 3)
    assert np.ptp(frames[0]) > 100
    assert gained > 0
    assert film.frames_per_second("Hopper-v4", 4) == pytest.approx(31.25)


@pytest.mark.parametrize("content", ["{", '{"architectures": ["GPT2"]}'])
def test_files_of_another_program_beside_a_student(tmp_path, content):
    """Which have the names of a run's: then the student says itself where it belongs."""
    contract = Contract(11, 3, (-1.0,) * 3, (1.0,) * 3, environment="Hopper-v4")
    path = tmp_path / "student.npz"
    for name in ("config.json", "manifest.json"):
        (tmp_path / name).write_text(content)
    save_policy(path, student(), contract)
    assert task_of(path, load_policy(path)) == {"gymnasium_id": "Hopper-v4"}
    (tmp_path / "manifest.json").unlink()
    assert find([str(tmp_path)]) == [path]
    path = path.rename(tmp_path / "mine.npz")
    assert find([str(tmp_path)]) == [path]
    (tmp_path / "manifest.json").write_text(content)
    save_policy(path, student())
    with pytest.raises(WorkdirError, match=r"damaged.*; give --env=ID"):
        task_of(path, load_policy(path))
