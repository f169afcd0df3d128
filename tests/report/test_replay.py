"""Reading a summary back, and what is said where its repetition differs."""

import copy
import json

import numpy as np
import pytest
from tiny import ROOT

from tskd_jax.config import default_config, finalize, from_plain, to_plain
from tskd_jax.data import load
from tskd_jax.errors import DatasetError, ReplayError
from tskd_jax.main import main
from tskd_jax.report import replay
from tskd_jax.run.files import to_json


@pytest.fixture(scope="module")
def summary():
    config = default_config()
    config.steps_multiplier = 0.01
    return json.loads(
        to_json(
            {
                "config": to_plain(finalize(config)[0]),
                "dataset": {"sha256": load.content_hash(load.resolve("hopper-sac-replay"))},
                "results": {"dataset": "1", "dynamics": "2", "student.tskd": np.array("3")},
                "versions": {"jax": "0.9", "numpy": "2.0"},
                "device": "cpu",
            }
        )
    )


def write(path, summary):
    path.write_text(json.dumps(summary))
    return path


def test_the_config_is_the_same_and_its_steps_are_not_scaled_twice(summary, tmp_path):
    _, config = replay.read(write(tmp_path / "summary.json", summary))
    assert config.student.steps == 1000  # 100,000 · 0.01
    assert json.loads(to_json(to_plain(config))) == summary["config"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"config": 1, "results": {}, "dataset": {}}']
)
def test_not_a_summary(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ReplayError, match=r"summary\.json") as caught:
        replay.read(tmp_path / "summary.json")
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(ReplayError, match="No such file"):
        replay.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("radius", -1, r"config\.stitching\.radius=-1\.0 is out of range"),
        ("radius", "far", "finite number"),
        ("raduis", 1, r"unknown or missing: stitching\.raduis"),
        ("radius", None, r"finite number"),
    ],
)
def test_a_config_of_another_version(summary, tmp_path, field, value, words):
    altered = copy.deepcopy(summary)
    altered["config"]["stitching"][field] = value
    with pytest.raises(ReplayError, match=words):
        replay.read(write(tmp_path / "summary.json", altered))


def test_a_field_that_is_missing(summary):
    altered = copy.deepcopy(summary)["config"]
    del altered["student"]["steps"]
    with pytest.raises(Exception, match=r"unknown or missing: student\.steps"):
        from_plain(altered)


def test_another_dataset(summary, tmp_path):
    altered = summary | {"dataset": {"sha256": "0" * 64}}
    with pytest.raises(ReplayError, match="has changed since"):
        replay.read(write(tmp_path / "summary.json", altered))


@pytest.mark.parametrize("place", ["run", "run/../run", "again"])
def test_where_a_run_is_finished_nothing_is_repeated(summary, tmp_path, capsys, place):
    for name in ("run", "again"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "summary.json", summary)
    before = sorted(tmp_path.rglob("*"))
    words = [str(tmp_path / "run/summary.json"), f"--workdir={tmp_path / place}"]
    assert main(["tskd-jax", "replay", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds a finished run, so nothing would be repeated; choose another --workdir" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_differences_name_stage_versions_and_device(summary):
    assert replay.differences(summary, copy.deepcopy(summary)) == []
    after = summary | {
        "results": summary["results"] | {"dynamics": "4", "student.tskd": "5"},
        "versions": summary["versions"] | {"jax": "0.10"},
        "device": "gpu",
    }
    first, second = replay.differences(summary, after)
    assert first == "does not match: 2 of 3 stages differ, first dynamics"
    assert second == "it was made with jax 0.9, now 0.10, cpu, now gpu"
    fewer = summary | {"results": {"dataset": "1"}}
    assert "first dynamics" in replay.differences(summary, fewer)[0]


def test_nothing_of_the_file_is_run(summary, tmp_path):
    altered = copy.deepcopy(summary)
    altered["config"]["dataset"]["name"] = "__import__('os').mkdir('made')"
    with pytest.raises(DatasetError, match="__import__"):
        replay.read(write(tmp_path / "summary.json", altered))
    assert not (ROOT / "made").exists()
