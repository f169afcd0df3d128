"""Which folders are runs that can be compared, and one line for those that are not."""

import json
import re

import numpy as np
import pytest
from report.finished import ENDS, make_run

from tskd_jax.errors import ConfigError, WorkdirError
from tskd_jax.report import comparison
from tskd_jax.run import files
from tskd_jax.run.folder import FORMAT


@pytest.fixture
def runs(tmp_path):
    """Two runs on one dataset."""
    one = make_run(tmp_path / "one", {"bc": [[1, 3], [4, 6]], "iql": [[9, 9], [9, 9]]})
    other = make_run(tmp_path / "other", {"bc": [[2, 2], [2, 2]], "tskd": [[8, 12], [4, 4]]})
    return one, other


def test_a_dataset_is_known_by_its_hash(tmp_path):
    first = make_run(tmp_path / "a", {"bc": [[1], [2]]}, dataset={"name": "x", "sha256": "1" * 64})
    moved = make_run(tmp_path / "b", {"iql": [[1], [2]]}, dataset={"name": "y", "sha256": "1" * 64})
    other = make_run(tmp_path / "c", {"iql": [[1], [3]]}, dataset={"name": "x", "sha256": "2" * 64})
    named = make_run(tmp_path / "d", {"tskd": [[1], [3]]}, dataset={"name": "x"})
    assert list(comparison.compare([first, moved]).entries) == ["x"]
    with pytest.raises(ConfigError, match=r"x \(11111111\) \(.*a\), x \(22222222\) \(.*c\)"):
        comparison.compare([first, other])
    odd = make_run(tmp_path / "e", {"tskd": [[1], [3]]}, dataset={"name": "x", "sha256": 5})
    with pytest.raises(ConfigError, match=r"x \(11111111\) \(.*a\), x \(5\) \(.*e\)"):
        comparison.compare([first, odd])
    # Of a package's dataset nobody knows the hash.
    assert list(comparison.compare([first, named]).entries) == ["x"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gymnasium_id": "Hopper-v5"}, "in Hopper-v5, episodes of up to 9 steps"),
        ({"episode_limit": 1000}, "in Hopper-v4, episodes of up to 1000 steps"),
    ],
)
def test_scores_of_one_dataset_that_are_measured_in_two_ways_are_refused(tmp_path, changes, said):
    one = make_run(tmp_path / "one", {"bc": [[1], [2]]})
    task = {"name": "hopper", "gymnasium_id": "Hopper-v4", "episode_limit": 9} | ENDS | changes
    other = make_run(tmp_path / "other", {"tskd": [[1], [2]]}, task=task)
    with pytest.raises(ConfigError) as caught:
        comparison.compare([one, other])
    assert str(caught.value).startswith(
        f"scores that cannot be compared: {one} (normalised score in Hopper-v4, episodes of up to "
        f"9 steps), {other} ("
    )
    assert said in str(caught.value)


def test_a_run_twice_is_refused(runs, tmp_path):
    with pytest.raises(WorkdirError, match="one: given twice"):
        comparison.compare([*runs, tmp_path / "other" / ".." / "one"])
    copy = make_run(tmp_path / "copy", {"bc": [[1]]})
    for name in ("summary.json", "returns.npz"):
        (copy / name).write_bytes((runs[0] / name).read_bytes())
    with pytest.raises(WorkdirError, match=f"{copy}: the same run as {runs[0]}"):
        comparison.compare([runs[0], copy])


def damage_summary(folder):
    (folder / "summary.json").write_text("{")


def half_written(folder):
    (folder / "summary.json").unlink()


def without_returns(folder):
    (folder / "returns.npz").unlink()


def damage_returns(folder):
    (folder / "returns.npz").write_bytes((folder / "returns.npz").read_bytes()[:200])


def returns_of_another(folder):
    np.savez(folder / "returns.npz", bc=np.ones((2, 2)), iql=np.ones((2, 2)))


def other_version(folder):
    found = json.loads((folder / "summary.json").read_text())
    del found["subject"]
    (folder / "summary.json").write_text(json.dumps(found))


def other_format(folder):
    files.write_sealed(folder / "manifest.json", {"format": 1})


def means_of_other_seeds(folder):
    found = json.loads((folder / "summary.json").read_text())
    found["scores"]["bc"]["per_seed"].append(2.0)
    (folder / "summary.json").write_text(json.dumps(found))


def one_mean_for_all_seeds(folder):
    np.savez(folder / "returns.npz", bc=np.full((2, 2), 4.0), iql=np.full((2, 2), 18.0))
    found = json.loads((folder / "summary.json").read_text())
    found["scores"]["bc"]["per_seed"] = [2.0]
    (folder / "summary.json").write_text(json.dumps(found))


def returns_without_dimensions(folder):
    np.savez(folder / "returns.npz", bc=np.float64(3), iql=np.float64(3))


def returns_of_nobody(folder):
    np.savez(folder / "returns.npz", bc=np.zeros((0, 2)), iql=np.full((2, 2), 18.0))
    found = json.loads((folder / "summary.json").read_text())
    found["scores"]["bc"]["per_seed"] = []
    (folder / "summary.json").write_text(json.dumps(found))


def verdicts_without_dimensions(folder):
    np.savez(folder / "referee.npz", bc=np.float64(3))


def verdicts_without_episodes(folder):
    np.savez(folder / "referee.npz", bc=np.ones(2))


def dataset_without_a_text(folder):
    found = json.loads((folder / "summary.json").read_text())
    found["dataset"]["name"] = 5
    (folder / "summary.json").write_text(json.dumps(found))


def student_that_is_no_key(folder):
    found = json.loads((folder / "summary.json").read_text())
    found["methods"]["bc"]["student"] = ["key"]
    (folder / "summary.json").write_text(json.dumps(found))
    files.write_sealed(folder / "manifest.json", {"format": FORMAT, "stages": {}})


def no_object(folder):
    (folder / "summary.json").write_text("[]")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damage_summary, "one/summary.json: damaged; run the same command again"),
        (half_written, "one: holds no finished run (no summary.json)"),
        (without_returns, "one: returns.npz has not the scores of summary.json"),
        (damage_returns, "one/returns.npz: damaged"),
        (returns_of_another, "one: returns.npz has not the scores of summary.json"),
        (means_of_other_seeds, "one: returns.npz has not the scores of summary.json"),
        (one_mean_for_all_seeds, "one: returns.npz has not the scores of summary.json"),
        (returns_without_dimensions, "one: returns.npz has not the scores of summary.json"),
        (returns_of_nobody, "one: returns.npz has not the scores of summary.json"),
        (verdicts_without_dimensions, "one: referee.npz has not the scores of summary.json"),
        (verdicts_without_episodes, "one: referee.npz has not the scores of summary.json"),
        (dataset_without_a_text, "one/summary.json: of another version of tskd-jax"),
        (student_that_is_no_key, "one/summary.json: of another version of tskd-jax (unhashable"),
        (other_version, "one/summary.json: of another version of tskd-jax (no 'subject')"),
        (other_format, "one: a run of another version of tskd-jax; run it again"),
        (no_object, "one/summary.json: of another version of tskd-jax"),
    ],
)
def test_what_cannot_be_read(runs, harm, said):
    harm(runs[0])
    with pytest.raises(WorkdirError, match=re.escape(said)):
        comparison.compare(runs)


def test_a_run_older_than_tasks_is_of_its_config(tmp_path):
    one = make_run(tmp_path / "one", {"bc": [[1.0, 3.0]]})
    found = json.loads((one / "summary.json").read_text())
    del found["task"]
    returns = np.array([[100.0, 300.0]])
    np.savez(one / "returns.npz", bc=returns)
    found["scores"]["bc"]["per_seed"] = [100 * (200 + 20.272305) / (3234.3 + 20.272305)]
    (one / "summary.json").write_text(json.dumps(found))
    assert comparison.read(one).measured == (
        "normalised score in Hopper-v4, episodes of up to 1000 steps"
    )
