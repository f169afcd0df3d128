"""Runs side by side, from their folders alone: numbers by hand, and what is refused."""

import csv

import numpy as np
import pytest
from report.finished import make_run

from tskd_jax.errors import ConfigError
from tskd_jax.report import comparison, comparison_figures, comparison_table
from tskd_jax.report.comparison_table import ALL, grid
from tskd_jax.run import files


@pytest.fixture
def runs(tmp_path):
    """Two runs on one dataset; both have BC."""
    one = make_run(tmp_path / "one", {"bc": [[1, 3], [4, 6]], "iql": [[9, 9], [9, 9]]})
    other = make_run(tmp_path / "other", {"bc": [[2, 2], [2, 2]], "tskd": [[8, 12], [4, 4]]})
    return one, other


def rows_of(*folders, **options) -> dict:
    table = comparison_table.rows(comparison.compare(folders, **options))
    return {(row["dataset"], row["method"]): row for row in table}


def test_one_dataset_by_hand(runs):
    rows = rows_of(*runs)
    # TSKD's seeds are worth 10 and 4, IQL's 9 and 9, BC's 2 and 5 in one run, 2 and 2 in the other.
    assert list(rows) == [
        *(("few", "bc@one"), ("few", "iql"), ("few", "bc@other"), ("few", "tskd")),
    ]
    bc = rows["few", "bc@one"]
    assert (bc["title"], bc["run"]) == ("BC", str(runs[0]))
    assert (bc["seeds"], bc["episodes"]) == (2, 2)
    assert (bc["mean"], bc["stderr"]) == (3.5, pytest.approx(1.5))
    assert bc["interquartile_mean"] == 3.5  # of 1 3 4 6
    # 10 > 2, 10 > 5, 4 > 2, 4 < 5.
    assert (bc["gain"], bc["improvement"]) == (3.5, 0.75)
    assert bc["gain_low"] < 0 < 3.5 < bc["gain_high"]
    # Half of the draws of two seeds have only one of them: of TSKD the 4, of BC the 5 (1 in 16).
    assert (bc["improvement_low"], bc["improvement_high"]) == (0, 1)
    iql = rows["few", "iql"]
    assert (iql["gain"], iql["improvement"]) == (-2, 0.5)
    assert (iql["low"], iql["high"]) == (9, 9)
    subject = rows["few", "tskd"]
    assert subject["gain"] == subject["improvement"] == subject["improvement_low"] == ""
    assert (subject["mean"], subject["world"], subject["optimality_gap"]) == (7, "", "")


def test_any_method_can_be_the_subject(runs):
    rows = rows_of(*runs, subject="bc@other")
    assert rows["few", "tskd"]["gain"] == -5
    assert rows["few", "tskd"]["improvement"] == 0
    with pytest.raises(ConfigError, match="bc is not on every dataset; --subject takes one of bc@"):
        rows_of(*runs, subject="bc")


def test_labels(runs, tmp_path):
    rows = rows_of(*runs, labels=["quick", "small"])
    assert ("few", "bc@small") in rows
    with pytest.raises(ConfigError, match="--labels: 1 for 2 runs"):
        rows_of(*runs, labels=["quick"])
    with pytest.raises(ConfigError, match=r"other: bc@same is there twice; give other --labels"):
        rows_of(*runs, labels=["same", "same"])
    # Folders of one name are told apart by what they lie in.
    again = make_run(tmp_path / "more" / "one", {"bc": [[7], [7]]})
    assert {key for _, key in rows_of(runs[0], again)} == {
        "iql",
        f"bc@{tmp_path.name}/one",
        "bc@more/one",
    }


@pytest.mark.parametrize("scores", [[[0, 0], [0, 0]], [[0, 0]]])
@pytest.mark.parametrize(
    ("bc", "tskd", "same"),
    [("a", "a", True), ("a", "b", False), ("a", None, False), (None, None, False)],
)
def test_the_same_students_gain_nothing(tmp_path, scores, bc, tskd, same):
    """Which they are only by their content: students that all fail have the same scores."""
    one = make_run(tmp_path / "one", {"bc": scores}, students=bc and {"bc": bc})
    other = make_run(tmp_path / "other", {"tskd": scores}, students=tskd and {"tskd": tskd})
    row = rows_of(one, other)["few", "bc"]
    assert (row["gain"], row["improvement"]) == (0, 0.5)
    several = len(scores) > 1
    assert (row["gain_low"], row["improvement_low"]) == (
        (0, 0.5) if several and not same else ("", "")
    )
    found = comparison.compare([one, other])
    text = comparison_table.text(found, comparison_table.rows(found))
    assert ("0 (same students)" in text) == same


@pytest.fixture
def several(tmp_path):
    """Two datasets with two methods each, and a third method on one."""
    one = make_run(
        tmp_path / "one", {"iql": [[0]], "bc": [[10], [20]], "tskd": [[30], [50]]}, "easy"
    )
    other = make_run(tmp_path / "other", {"bc": [[5], [7]], "tskd": [[6], [120]]}, "hard")
    return one, other


def test_datasets_are_mixed_only_where_that_is_asked_for(several):
    with pytest.raises(ConfigError) as caught:
        comparison.compare(several)
    assert str(caught.value) == (
        f"runs of different datasets: easy ({several[0]}), hard ({several[1]}); --across_datasets "
        "compares them"
    )


def test_several_datasets_by_hand(several):
    rows = rows_of(*several, across_datasets=True)
    assert list(rows) == [
        *(("easy", "iql"), ("easy", "bc"), ("easy", "tskd"), ("hard", "bc"), ("hard", "tskd")),
        *((ALL, "bc"), (ALL, "tskd")),
    ]
    bc, tskd = rows[ALL, "bc"], rows[ALL, "tskd"]
    # Means 15 and 6, of errors 5 and 1; the middle of 5 7 10 20; 85 + (95 + 93 + 90 + 80) / 4 …
    assert bc["mean"] == 10.5
    assert bc["stderr"] == pytest.approx(np.sqrt(26) / 2)
    assert bc["interquartile_mean"] == 8.5
    assert bc["optimality_gap"] == pytest.approx(100 - 42 / 4)
    # 120 counts as 100.
    assert tskd["optimality_gap"] == pytest.approx(100 - 186 / 4)
    # Always above on the easy one; of 6 > 5, 6 < 7, 120 > both on the hard one: (1 + ¾) / 2.
    assert bc["improvement"] == 0.875
    # Drawn in each dataset by itself: on the easy one 1 in every draw, on the hard one 0 … 1.
    assert (bc["improvement_low"], bc["improvement_high"]) == (0.5, 1)
    assert bc["gain"] == tskd["improvement"] == ""
    assert bc["seeds"] == 4


def test_a_seed_of_each_dataset_has_no_interval(tmp_path):
    one = make_run(tmp_path / "one", {"bc": [[1]], "tskd": [[2]]}, "easy")
    other = make_run(tmp_path / "other", {"bc": [[3]], "tskd": [[4]]}, "hard")
    row = rows_of(one, other, across_datasets=True)[ALL, "bc"]
    assert (row["mean"], row["interquartile_mean"], row["improvement"]) == (2, 2, 1)
    assert row["stderr"] == row["low"] == row["improvement_low"] == ""
    found = comparison.compare([one, other], across_datasets=True)
    text = comparison_table.text(found, comparison_table.rows(found))
    assert "±" not in text.partition(ALL)[2]


def test_the_same_students_are_no_improvement_over_all_datasets(tmp_path):
    scores = {"bc": [[1, 3], [4, 6]], "tskd": [[9, 9], [8, 8]]}
    same = {"bc": "a", "tskd": "a"}
    easy = make_run(tmp_path / "easy", scores, "easy", students=same)
    hard = make_run(tmp_path / "hard", scores, "hard", students=same)
    row = rows_of(easy, hard, across_datasets=True)[ALL, "bc"]
    assert (row["improvement"], row["improvement_low"]) == (0.5, "")
    # Other students on one of them: always above there, which leaves (1 + ½) / 2.
    other = make_run(tmp_path / "other", scores, "other", students={"bc": "a", "tskd": "b"})
    row = rows_of(easy, other, across_datasets=True)[ALL, "bc"]
    ends = row["improvement_low"], row["improvement_high"]
    assert (row["improvement"], *ends) == (0.75, 0.75, 0.75)


def test_runs_that_belong_together_have_one_label(tmp_path):
    folders = [
        make_run(tmp_path / f"{data}-{preset}", {"tskd": [[place], [place + 1]]}, data)
        for place, (data, preset) in enumerate(
            [("easy", "quick"), ("easy", "small"), ("hard", "quick"), ("hard", "small")]
        )
    ]
    with pytest.raises(ConfigError, match=r"no method is on all of easy, hard; .*--labels="):
        comparison.compare(folders, across_datasets=True)
    labels = ["quick", "small"] * 2
    found = comparison.compare(folders, labels, across_datasets=True)
    assert found.common == ["tskd@quick", "tskd@small"]
    assert found.subject == "tskd@small"


def test_scores_of_different_kinds_are_not_averaged(several, tmp_path):
    task = {"name": "own", "gymnasium_id": "", "random_return": None, "expert_return": None}
    scores = {"bc": [[5], [7]], "tskd": [[6], [9]]}
    robot = make_run(tmp_path / "robot", scores, "robot", task=task, file="referee.npz")
    returns = {name: np.array(one, float) for name, one in scores.items()}
    np.savez(robot / "referee.npz", **returns)  # where nothing is normalised
    found = comparison.compare([several[0], robot], across_datasets=True)
    assert found.unit("robot") == "return in the learned world"
    rows = comparison_table.rows(found)
    last = rows[-1]
    assert (last["dataset"], last["mean"], last["interquartile_mean"]) == (ALL, "", "")
    assert rows[-2]["improvement"] == (1 + 0.75) / 2
    assert "not all scores are normalised" in comparison_table.text(found, rows)
    assert comparison_figures.draw(found, rows, tmp_path) == ["comparison.png"]


def test_text_and_markdown_say_the_same(several):
    found = comparison.compare(several, across_datasets=True)
    rows = comparison_table.rows(found)
    text, markdown = comparison_table.text(found, rows), comparison_table.markdown(found, rows)
    for words in ("easy: normalised score", "10.5 ± 2.5", "0.88 (0.50 … 1.00)", "+25.0 ("):
        assert words in text
        assert words in markdown
    assert "| method | run | seeds | score |" in markdown
    blocks = [block.splitlines() for block in text.split("\n\n")]
    # The columns of the second dataset stand below one another.
    (table,) = [block for block in blocks if block[0].startswith("method") and len(block) == 3][:1]
    assert len({len(line) for line in table[:2]}) == 1
    assert grid([["a", "b"], ["1", ""]]) == "| a | b |\n| --- | --- |\n| 1 |  |\n"
    assert grid([["a"], ["x|y"]]) == "| a |\n| --- |\n| x\\|y |\n"


def test_pictures(several, tmp_path):
    found = comparison.compare(several, across_datasets=True)
    drawn = comparison_figures.draw(found, comparison_table.rows(found), tmp_path / "out")
    assert drawn == ["comparison.png", "profile.png"]
    for name in drawn:
        assert (tmp_path / "out" / name).stat().st_size > 5000


def test_a_label_is_no_formula(several, tmp_path):
    again = make_run(tmp_path / "again", {"bc": [[10], [21]], "tskd": [[30], [51]]}, "easy$_{$")
    labels = ["a$_{$", "a$_{$", "$b^^$"]
    found = comparison.compare([*several, again], labels, across_datasets=True)
    drawn = comparison_figures.draw(found, comparison_table.rows(found), tmp_path / "out")
    assert drawn == ["comparison.png", "profile.png"]


def test_csv_holds_every_number(several, tmp_path):
    rows = comparison_table.rows(comparison.compare(several, across_datasets=True))
    files.write_csv(tmp_path / "x.csv", rows)
    with (tmp_path / "x.csv").open() as file:
        back = list(csv.DictReader(file))
    assert [row["method"] for row in back] == [row["method"] for row in rows]
    assert float(back[-2]["improvement"]) == 0.875
    assert back[-1]["improvement"] == ""
