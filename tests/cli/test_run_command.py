"""The command as a user meets it: a tiny run to the end, stopping and going on, and mistakes.

Over 300 lines: all of it looks at one run, which is made once.
"""

import csv
import json
import platform
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import processes
import pytest
from scipy.stats import spearmanr
from tiny import TINY_FLAGS

import tskd_jax
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.cli.run import STAGES
from tskd_jax.data import load_dataset
from tskd_jax.data.formats.d4rl import write
from tskd_jax.main import main
from tskd_jax.policy import load_contract, load_policy
from tskd_jax.report.table import table
from tskd_jax.run import files
from tskd_jax.run import folder as run_folder

ROOT = Path(__file__).parents[2]
PICTURES = ("scores.png", "trajectories.png", "report.html")


def command(workdir: Path, dataset: Path, *more: str) -> list[str]:
    config = f"--config={ROOT / 'configs/hopper.py'}"
    paths = (f"--config.dataset.path={dataset}", f"--workdir={workdir}")
    return ["tskd-jax", config, *paths, *TINY_FLAGS, *more]


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run") / "whole"
    assert main(command(workdir, dataset)) == 0
    return workdir


def test_everything_promised_is_there(finished, dataset):
    summary = json.loads((finished / "summary.json").read_text())
    variants = ["tskd_without_stitching", "tskd_without_imagination", "tskd_without_both"]
    methods = ["bc", "filtered_bc", *variants, "tskd"]
    assert list(summary["scores"]) == methods
    returns = np.load(finished / "returns.npz")
    for method in methods:
        assert returns[method].shape == (2, 2)
        # D4RL's hopper constants, written out here on purpose.
        scores = 100 * (returns[method] + 20.272305) / (3234.3 + 20.272305)
        reported = summary["scores"][method]
        assert reported["per_seed"] == pytest.approx(scores.mean(1).tolist())
        assert reported["mean"] == pytest.approx(scores.mean())
        # Two seeds: standard error = |a - b| / √2 / √2.
        assert reported["stderr"] == pytest.approx(abs(np.subtract(*scores.mean(1))) / 2)
        for seed in (0, 1):
            assert load_policy(finished / f"students/{method}/seed_{seed}.npz").parameters == 69_635
        if method != "tskd":
            of_tskd = 100 * (returns["tskd"] + 20.272305) / (3234.3 + 20.272305)
            gain = summary["gains"][method]
            assert gain["mean"] == pytest.approx((of_tskd - scores).mean())
            assert gain["interval"][0] <= gain["mean"] <= gain["interval"][1]
    assert set(summary["gains"]) == set(methods) - {"tskd"}
    assert {summary["methods"][method]["parameters"] for method in methods} == {69_635}
    assert summary["dataset"]["name"] == str(dataset)
    assert len(summary["dataset"]["sha256"]) == 64
    assert summary["dataset"]["episodes"] == 30
    assert summary["stages"]["imagination"]["imagined"]["episodes"] == 3
    assert 0 <= summary["stages"]["stitching.tskd.0"]["stitched_share"] <= 1
    assert set(summary["versions"]) >= {"python", "jax", "flax", "numpy", "mujoco"}
    groups = {name.partition(".")[0] for name in summary["seconds"]}
    assert groups >= {"dynamics", "imagination", "value", "stitching", "student", "evaluation"}
    for name in PICTURES:
        assert (finished / name).stat().st_size > 5000
    with h5py.File(finished / "stitched.hdf5") as file:
        assert file["observations"].shape[1] == 11
    assert load_dataset(finished / "stitched.hdf5").size > 0
    config = json.loads((finished / "config.json").read_text())
    assert config["student"]["steps"] == 30  # 15,000 · 0.002
    with (finished / "metrics.csv").open() as file:
        stages = {row["stage"] for row in csv.DictReader(file)}
    assert stages >= {"dynamics", "trajectory_generator", "reward_generator", "student.bc"}
    assert list((finished / "tensorboard").iterdir())
    assert not list(finished.glob("training/*"))


def test_the_student_acts(finished):
    assert same_policy(finished / "student.npz", finished / "students/tskd/seed_0.npz")
    policy = load_policy(finished / "student.npz")
    actions = policy(np.zeros((4, 5, 11), np.float32))
    assert actions.shape == (4, 5, 3)
    assert np.abs(actions).max() <= 1


def test_a_contract_travels_with_every_student(finished, dataset):
    returns = np.load(finished / "returns.npz")
    summary = json.loads((finished / "summary.json").read_text())
    for method in summary["scores"]:
        for seed in (0, 1):
            contract = load_contract(finished / f"students/{method}/seed_{seed}.npz")
            assert (contract.method, contract.seed) == (method, seed)
            scores = 100 * (returns[method][seed] + 20.272305) / (3234.3 + 20.272305)
            assert contract.score == pytest.approx(scores.mean())
            # Two episodes: standard error = |a - b| / √2 / √2.
            assert contract.score_error == pytest.approx(abs(np.subtract(*scores)) / 2)
            assert contract.score_episodes == 2
    contract = load_contract(finished / "student.npz")
    assert contract == load_contract(finished / "students/tskd/seed_0.npz")
    assert (contract.score_unit, contract.score_measured_in) == ("normalised score", "simulator")
    assert contract.observation_names[:2] == ("rootz", "rooty")
    assert contract.action_low == (-1, -1, -1)
    assert contract.control_hz == pytest.approx(125)
    assert contract.environment == "Hopper-v4"
    # The file's name, and not where it lay.
    assert contract.dataset == dataset.name
    assert contract.dataset_sha256 == summary["dataset"]["sha256"]
    recorded = load_dataset(dataset).observations
    np.testing.assert_allclose(contract.observation_low, recorded.min(0))
    np.testing.assert_allclose(contract.observation_high, recorded.max(0))
    assert contract.versions["jax"] == summary["versions"]["jax"]


def test_imagination_is_judged(finished):
    stages = json.loads((finished / "summary.json").read_text())["stages"]
    assert stages["imagination"]["imagined"]["mean_length"] <= 1000
    errors = stages["check_in_simulator"]
    for name in ("recorded", "imagined"):
        assert errors[name]["nothing_moves"] > 0
    # The recorded transitions are possible, so they must look more so than what a network of a
    # few updates imagines.
    assert errors["recorded"]["error"] < errors["imagined"]["error"]


def test_stopping_after_each_stage_ends_in_the_same_students(finished, dataset, tmp_path, capfd):
    workdir = tmp_path / "pieces"
    for stage in ("trajectory_generator", "stitching"):
        assert main(command(workdir, dataset, f"--stop_after={stage}")) == 0
        assert f"stopped after {stage}" in capfd.readouterr().err
        assert not (workdir / "summary.json").exists()
    assert main(command(workdir, dataset)) == 0
    assert same_policy(finished / "student.npz", workdir / "student.npz")


def same_policy(left: Path, right: Path) -> bool:
    with np.load(left) as a, np.load(right) as b:
        return all(a[name].tobytes() == b[name].tobytes() for name in a.files)


def same_students(left: Path, right: Path, count: int = 12) -> bool:
    files = sorted(path.relative_to(left) for path in left.glob("students/*/*.npz"))
    assert len(files) == count
    return all(same_policy(left / path, right / path) for path in files)


def test_killed_and_damaged_it_ends_in_the_same_students(finished, dataset, tmp_path):
    """The long form, with kills in every stage, is experiments/hardening/torture.py."""
    workdir, moments = tmp_path / "run", random.Random(0)
    for begun in ("dynamics", "imagination"):
        process = processes.start(processes.command(workdir, dataset))
        processes.wait_until(lambda begun=begun: begun in stages_done(workdir), process)
        time.sleep(moments.uniform(0.0, 2.0))
        process.kill()
        process.communicate()
    damaged = next(p for p in workdir.glob("stages/dynamics-*/**/*") if p.stat().st_size > 99)
    damaged.write_bytes(damaged.read_bytes()[:-7])
    assert main(command(workdir, dataset)) == 0
    assert same_students(finished, workdir)
    before = json.loads((finished / "summary.json").read_text())["results"]
    assert json.loads((workdir / "summary.json").read_text())["results"] == before
    with (workdir / "metrics.csv").open(newline="") as file:
        rows = [tuple(row.values())[:4] for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows))


def stages_done(workdir: Path) -> list[str]:
    try:
        stages = json.loads((workdir / "manifest.json").read_text())["stages"]
        return [stage["name"] for stage in stages.values()]
    except FileNotFoundError:
        return []


def test_a_summary_is_repeated_and_compared(dataset, tmp_path, capfd):
    run, replayed = tmp_path / "run", tmp_path / "again"
    assert main(command(run, dataset, "--config.methods=bc,filtered_bc")) == 0
    argv = ["tskd-jax", f"--replay={run / 'summary.json'}", f"--workdir={replayed}"]
    assert main(argv) == 0
    assert "summary.json: matches" in capfd.readouterr().out
    assert same_students(run, replayed, count=4)
    assert "nothing would be repeated" in run_failing(capfd, argv)
    # Of another summary, the same repetition, interrupted at its end, says where it differs.
    (replayed / "summary.json").unlink()
    summary = json.loads((run / "summary.json").read_text())
    summary["results"]["student.bc"] = "0" * 64
    (tmp_path / "other.json").write_text(json.dumps(summary))
    assert main([argv[0], f"--replay={tmp_path / 'other.json'}", argv[2]]) == 1
    assert "does not match: 1 of" in capfd.readouterr().out
    assert "--replay" in run_failing(capfd, [*argv, f"--config={ROOT / 'configs/hopper.py'}"])


def test_a_finished_run_is_not_done_again(finished, dataset, capfd):
    before = (finished / "manifest.json").read_bytes()
    assert main(command(finished, dataset)) == 0
    assert (finished / "manifest.json").read_bytes() == before
    assert "TSKD" in capfd.readouterr().out


@pytest.mark.parametrize("older", [False, True])
def test_who_asks_a_finished_run_has_not_made_it(finished, dataset, tmp_path, monkeypatch, older):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = json.loads((folder / "summary.json").read_text())
    assert [before["versions"]] == [one["versions"] for one in before["machines"]]
    if older:  # a manifest without `machines`
        manifest, _ = files.read_sealed(folder / "manifest.json")
        files.write_sealed(
            folder / "manifest.json", {k: v for k, v in manifest.items() if k != "machines"}
        )
    monkeypatch.setattr(platform, "python_version", lambda: "2.7")
    monkeypatch.setattr(run_folder, "__version__", "0.1")
    assert main(command(folder, dataset)) == 0
    assert json.loads((folder / "summary.json").read_text()) == before
    contract = load_contract(folder / "student.npz")
    assert contract.versions["tskd_jax"] == ("0.1" if older else before["versions"]["tskd_jax"])
    # Who computes something again is one of those who made it.
    shutil.rmtree(next(folder.glob("stages/evaluation.bc-*")))
    assert main(command(folder, dataset)) == 0
    after = json.loads((folder / "summary.json").read_text())
    assert after["results"] == before["results"]
    assert after["versions"] == before["versions"] | {"python": "2.7", "tskd_jax": "0.1"}
    assert after["machines"][:-1] == ([] if older else before["machines"])


def test_a_stage_to_stop_after_that_never_comes(finished, dataset, capfd):
    assert main(command(finished, dataset, "--stop_after=wgan")) == 0
    line = next(line for line in capfd.readouterr().err.splitlines() if "wgan" in line)
    assert "this run has no such stage and is whole; it has dataset, student.bc, " in line


def test_what_cannot_be_reused_is_one_line(finished, dataset, tmp_path, capfd):
    other, workdir = tmp_path / "other", tmp_path / "run"
    argv = command(workdir, dataset, f"--reuse={other}")
    other.mkdir()
    assert "other: holds no run" in run_failing(capfd, argv)
    (other / "manifest.json").write_text((finished / "manifest.json").read_text()[:-99])
    assert "other: manifest.json and its copy are damaged" in run_failing(capfd, argv)
    files.write_sealed(other / "manifest.json", {"format": 1})
    assert "other: a run of another version" in run_failing(capfd, argv)
    assert not workdir.exists()


def test_the_teacher_in_the_simulator(finished, dataset, tmp_path):
    """Algorithm 1 to the letter, and DDR-I's own score; the models are those of another run."""
    more = ("--config.imagination.mode=environment", "--config.evaluation.teacher_episodes=2")
    fewer = ("--config.methods=bc,tskd", "--config.ablations=False", f"--reuse={finished}")
    assert main(command(tmp_path / "run", dataset, *more, *fewer)) == 0
    summary, other = (
        json.loads((folder / "summary.json").read_text()) for folder in (tmp_path / "run", finished)
    )
    assert summary["scores"]["bc"] == other["scores"]["bc"]
    assert summary["seconds"]["student.bc"] == other["seconds"]["student.bc"]
    assert len(summary["scores"]["teacher"]["per_seed"]) == 1
    executed = load_dataset(tmp_path / "run" / "imagined.hdf5")
    # Executed actions lead to possible next states, and episodes end as the simulator says.
    inside = np.setdiff1d(np.arange(executed.size), executed.ends)
    np.testing.assert_array_equal(
        executed.next_observations[inside], executed.observations[inside + 1]
    )
    assert executed.terminals[executed.ends].all() or (executed.lengths == 1000).any()


@pytest.mark.slow
def test_the_learned_world_imagines_corrects_and_judges(finished, dataset, tmp_path, capfd):
    world = ("--config.imagination.world=random_member", "--config.selection.students=1")
    rounds = ("--config.aggregation.rounds=1", "--config.aggregation.states=20")
    chosen = ("--config.selection.by=referee", "--config.selection.shares=(0.1,0.5)")
    judged = ("--config.referee.episodes=3", "--config.methods=bc,tskd", "--config.ablations=False")
    judged += ("--config.fitted_q.enabled=True", "--config.fitted_q.steps=5")
    workdir = tmp_path / "run"
    argv = command(workdir, dataset, *world, *rounds, *chosen, *judged, f"--reuse={finished}")
    assert main(argv) == 0
    summary = json.loads((workdir / "summary.json").read_text())
    made = {"world", "best_share", "choice.tskd", "aggregation.tskd.0", "choice.tskd.0"}
    assert made <= summary["seconds"].keys()
    told = summary["stages"]["choice.tskd"]
    choices = {"recorded", "recorded, imagined and stitched"}
    assert told.keys() == choices | {f"{choice}: worst tenth" for choice in choices} | {"chosen"}
    returns = np.load(workdir / "referee.npz")
    assert {name: returns[name].shape for name in returns.files} == {"bc": (2, 3), "tskd": (2, 3)}
    with np.load(workdir / "referee_left.npz") as left:
        worst = returns["tskd"].min()
        best = int(np.where(left["tskd"], worst, returns["tskd"]).mean(1).argmax())
    assert summary["student"] == {"seed": best, "chosen": True}
    assert same_policy(workdir / "student.npz", workdir / f"students/tskd/seed_{best}.npz")
    out, err = capfd.readouterr()
    assert f"recorded: {told['recorded']:.1f}, worst tenth " in err
    assert "fitted Q" in out
    fitted = np.load(workdir / "fitted_q.npz")
    for name in ("bc", "tskd"):
        assert fitted[name].shape[0] == 2
        said = summary["fitted_q"][name]["mean"]
        assert said == pytest.approx(float(fitted[name].mean()), rel=1e-5)
    # How well both agree with the simulator about the four students.
    played = np.load(workdir / "returns.npz")
    means = [
        np.concatenate([one[name].mean(1) for name in ("bc", "tskd")])
        for one in (played, returns, fitted)
    ]
    assert summary["agreement"] == {
        "referee": pytest.approx(spearmanr(means[0], means[1]).statistic, abs=1e-6),
        "fitted_q": pytest.approx(spearmanr(means[0], means[2]).statistic, abs=1e-6),
    }
    assert "rank correlation with the simulator over students: learned world " in out
    # Of the student and its evaluation, and not of what judges it besides.
    stages = json.loads((workdir / "manifest.json").read_text())["stages"]
    for method in summary["methods"].values():
        used = [stages[key] for key in method["stages"]]
        (evaluation,) = (one for one in used if one["name"].startswith("evaluation."))
        expected = stages[method["student"]]["seconds"] + evaluation["seconds"]
        assert method["seconds"] == pytest.approx(expected)
    left = np.load(workdir / "referee_left.npz")
    said = {name: summary["referee"][name]["left"] for name in left.files}
    assert said == {"bc": left["bc"].mean(), "tskd": left["tskd"].mean()}


@pytest.mark.slow
def test_the_best_of_two_teachers_is_the_one_that_imagines(dataset, tmp_path, capfd):
    two = ("--config.teachers.count=2", "--config.teachers.keep=best", "--config.teachers.trials=3")
    two += ("--config.seed_axis=pipeline", "--config.imagination.world=mean")
    two += ("--config.methods=tskd", "--config.ablations=False")
    two += ("--config.stitching.enabled=False", "--config.evaluation.teacher_episodes=1")
    workdir = tmp_path / "run"
    assert main(command(workdir, dataset, *two)) == 0
    _, err = capfd.readouterr()
    summary = json.loads((workdir / "summary.json").read_text())
    told = summary["stages"]["best_teacher"]["of_seed"]
    chosen = [max(one, key=one.get) for one in told.values()]
    lines = [line for line in err.splitlines() if "chosen in the learned world: teacher" in line]
    assert [line.split(": ")[1].split(" (")[0] for line in lines] == chosen
    assert {"trial", "trial.2", "trajectory_generator.2"} <= summary["seconds"].keys()
    assert "imagination.2" not in summary["seconds"]
    assert "teacher_2" not in summary["scores"]
    assert len(summary["scores"]["teacher"]["per_seed"]) == 2
    before = (workdir / "manifest.json").read_bytes()
    assert main(command(workdir, dataset, *two)) == 0
    assert (workdir / "manifest.json").read_bytes() == before


def run_failing(capfd, argv: list[str]) -> str:
    assert main(argv) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("tskd-jax: ")
    return lines[0]


def test_pictures_are_drawn_again_from_the_folder_alone(finished, tmp_path, capfd):
    folder = tmp_path / "moved"
    shutil.copytree(finished, folder)
    for part in ("stages", "manifest.json", *PICTURES):
        path = folder / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main(["tskd-jax", "report", str(folder)]) == 0
    out = capfd.readouterr().out
    assert table(json.loads((finished / "summary.json").read_text())) in out
    for name in PICTURES:
        assert (folder / name).read_bytes() == (finished / name).read_bytes()


def test_another_config_is_refused(finished, dataset, capfd):
    before = sorted(p.name for p in finished.iterdir())
    line = run_failing(
        capfd, command(finished, dataset, "--config.stitching.radius=0.7", "--config.seed=3")
    )
    assert "stitching.radius" in line
    assert "seed" in line
    assert "--workdir" in line
    assert sorted(p.name for p in finished.iterdir()) == before


def test_another_file_of_the_same_name_is_refused(dataset, tmp_path, capfd):
    copy = tmp_path / "copy.hdf5"
    copy.write_bytes(dataset.read_bytes())
    workdir = tmp_path / "run"
    assert main(command(workdir, copy, "--stop_after=dataset")) == 0
    write(copy, load_dataset(dataset).select(np.arange(5)), {})
    capfd.readouterr()
    assert "not the file that this run began with" in run_failing(capfd, command(workdir, copy))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--config"),
        (["--config=nowhere.py"], "nowhere.py"),
        (["--config=configs/hopper.py:huge"], "huge"),
        (["--config=configs/hopper.py", "--config.stitching.raduis=1"], "stitching.radius"),
        (["--config=configs/hopper.py", "--config.stitching.radius=far"], "radius"),
        (["--config=configs/hopper.py", "--config.stitching.radius=-1.0"], "allowed"),
        (["--config=configs/hopper.py", "--config.dataset.path=none.hdf5"], "none.hdf5"),
        (["--config=configs/hopper.py", "--stop_after=lunch"], "stop_after"),
        (["--config=hopper", "--stop_after=student.nosuch"], "there are bc, filtered_bc, tskd_one"),
        (["--config=hopper", "--stop_after=student."], "there are bc, filtered_bc, tskd_one"),
        (["--config=hopper", "--stop_after=world.bc"], "world has no parts"),
        (["--config=configs/hopper.py", "--wrokdir=x"], "wrokdir"),
        (["--config=configs/hopper.py", "more"], "more"),
        (["--config=configs/halfcheetah.py:small,medium"], "halfcheetah"),
        (["--config=hopper", "--config.dataset.path="], "has no value"),
        (
            ["--config=hoppper"],
            "ant, halfcheetah, hopper, kitchen_mixed, kitchen_partial, own, walker2d",
        ),
        (["--config=hopper", "--config.methods=bc,magic"], "magic"),
        (["--config=hopper", "--reuse=nowhere"], "nowhere"),
        (["fly"], "no command"),
        (["replay"], "summary.json"),
        (["replay", "nowhere.json"], "nowhere.json"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    argv = ["tskd-jax", *arguments]
    if arguments[:1] not in (["fly"], ["report"]):
        argv.append(f"--workdir={tmp_path / 'run'}")
    assert words in run_failing(capfd, argv)
    assert not (tmp_path / "run").exists()


def test_data_of_another_environment(dataset, capfd, tmp_path):
    argv = [
        "tskd-jax",
        f"--config={ROOT / 'configs/halfcheetah.py'}",
        f"--config.dataset.path={dataset}",
        f"--workdir={tmp_path / 'run'}",
    ]
    line = run_failing(capfd, argv)
    assert "11" in line
    assert "17" in line


def test_a_foreign_folder_is_left_alone(dataset, capfd, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "holds no run" in run_failing(capfd, command(tmp_path, dataset))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_fields_are_listed(capfd):
    assert main(["tskd-jax", "fields"]) == 0
    assert "`stitching.radius`" in capfd.readouterr().out


def test_help_names_the_stages(capfd):
    assert main(["tskd-jax", "run", "--help"]) == 0
    words = " ".join(capfd.readouterr().out.split())
    assert "as world or student.tskd" in words
    assert ", ".join(STAGES) in words


def test_the_docs_name_the_stages():
    words = " ".join((ROOT / "docs/robustness.md").read_text().split())
    listed = ", ".join(f"`{name}`" for name in STAGES[:-1]) + f" and `{STAGES[-1]}`"
    assert f"The stages are {listed};" in words


def test_as_a_process(tmp_path):
    """Exit status, help, and no traceback, through a real interpreter."""
    base = [sys.executable, "-m", "tskd_jax.main"]
    done = subprocess.run([*base, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    # On one screen: the commands, the methods, the presets.
    assert len(done.stdout.splitlines()) <= 24
    assert max(map(len, done.stdout.splitlines())) <= 100
    for word in ("run", "sweep", "replay", "report", "fields", "quick", "tskd_one_step"):
        assert word in done.stdout
    done = subprocess.run([*base, "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, f"tskd-jax {tskd_jax.__version__}\n")
    # By an IDE's button, and as a module.
    for program in (["tskd_jax/main.py"], ["-m", "tskd_jax"]):
        argv = [sys.executable, *program, "--version"]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
        assert done.stdout == f"tskd-jax {tskd_jax.__version__}\n", done.stderr
    done = subprocess.run(
        [*base, "--config=configs/hopper.py:nope"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8.00 GiB for an array"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.\nmore"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_is_one_line(error, capsys):
    def command(_request):
        raise error

    assert run_to_exit_status(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tskd-jax: out of memory")
    assert str(error).partition("\n")[0] in line
    assert line.endswith("the same command goes on from here")
