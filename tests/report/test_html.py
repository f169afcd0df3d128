"""report.html: what it holds, that it is alone, and that it is the same when it is made again."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from report.browser import CHROMIUM, browser

from tskd_jax.data.formats import d4rl
from tskd_jax.data.trajectories import IMAGINED, RECORDED, STITCHED, concatenate
from tskd_jax.report import html, material
from tskd_jax.stitching.stitch import moves


def score(*per_seed):
    mean = float(np.mean(per_seed))
    error = float(np.std(per_seed, ddof=1) / len(per_seed) ** 0.5) if len(per_seed) > 1 else 0.0
    return {"mean": mean, "stderr": error, "per_seed": list(per_seed)} | {
        "interquartile_mean": mean,
        "interval": [mean - 2, mean + 2],
    }


def make_summary(**changes):
    """Of a run of TSKD, by hand."""
    titles = {"bc": "BC", "tskd": "TSKD", "teacher": "DDR-I as planner (teacher)"}
    method = {"parameters": 69635, "seconds": 61.4}
    quantiles = {"0": 1.0, "50": 2.0, "100": 3.0}
    return {
        "dataset": {
            **{"name": "hopper-medium-v2", "transitions": 1500, "episodes": 24},
            **{"terminal_episodes": 8, "return_quantiles": quantiles, "return_mean": 2.0},
            "warnings": ["<b>rewards</b> & more"],
        },
        "task": {"gymnasium_id": "Hopper-v4", "random_return": 0.0},
        "subject": "tskd",
        "methods": {
            name: method | {"title": title, "student": name} for name, title in titles.items()
        },
        "student": {"seed": 1, "chosen": True},
        "scores": {"bc": score(10.0, 20.0), "tskd": score(50.0, 70.0), "teacher": score(80.0)},
        "referee": {"bc": score(9.0, 11.0) | {"left": 0.25}},
        "agreement": {"referee": 0.875, "fitted_q": None},
        "gains": {
            "bc": {"mean": 45.0, "interval": [1.0, 89.0]},
            "teacher": {"mean": -20.0, "interval": None},
        },
        "seconds": {"student.bc": 30.0, "world": 900.0, "choice.tskd": 1.0},
        "stages": {
            "stitching.tskd.0": {
                "edges_unique": 3,
                "moves": {f"{i} to {j}": i == 1 < j for i in range(1, 5) for j in range(1, 5)},
            },
            "reward_generator": {"held_out_mse": 0.125, "held_out_reward_variance": 2.0},
            "check_in_simulator": {
                "imagined": {"error": 0.03, "nothing_moves": 0.2, "transitions": 1234.0}
            },
        },
        "versions": {"python": "3.11", "jax": "0.10"},
        "device": "cpu: cpu × 1",
        "config": {"seeds": [0, 1], "dataset": {"path": ""}, "evaluation": {"episodes": 10}},
    } | changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_trajectories):
    """Of a run that has left everything."""
    tmp_path = tmp_path_factory.mktemp("run")
    data = stitched(tiny_trajectories)
    np.savez(tmp_path / material.FILE, **material.collect(tiny_trajectories, data))
    imagined = tiny_trajectories.replace(source=np.full(tiny_trajectories.size, IMAGINED))
    d4rl.write(tmp_path / "imagined.hdf5", imagined)
    rows = ["stage,key,step,metric,value"]
    for key, start in (("a", 1.0), ("b", 2.0)):
        rows += [f"student.{key},{key},{step},loss,{start / step}" for step in range(1, 400)]
    rows += ["world,c,1,loss,3", "world,c,2,loss,2", "world,c,2,loss,1.5", "world,c,1,norm,9"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    films = tmp_path / html.FILMS
    films.mkdir()
    (films / "best_episode.webp").write_bytes(b"RIFF....WEBP")
    return tmp_path


@pytest.fixture(scope="module")
def text(folder):
    """Its page."""
    return html.write(folder, make_summary()).read_text()


def stitched(data):
    """Episodes 0 and 1 as recorded, and one that goes from episode 4 to episode 2."""
    path = data.select(np.array([4])).truncate(np.array([3]))
    path = path.replace(source=np.array([RECORDED, RECORDED, STITCHED], np.int8))
    return concatenate([data.select(np.array([0, 1])), path])


class Page(HTMLParser):
    """All elements of a page: (tag, attributes), and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_everything_that_a_run_has_left_is_shown(text):
    page = Page(text)
    figures = [figure["id"] for figure in page.all("figure") if "id" in figure]
    assert figures == [
        f"figure-{name}"
        for name in ("scores", "imagination", "moves", "examples", "kept", "losses", "time")
    ]
    for said in (
        "TSKD: 60.0 ± 10.0",
        "+45.0 (+1.0 … +89.0)",
        "83.2 ± 8.1",  # the paper's own, as the data is D4RL's
        "learned world 0.88",
        "3 different stitches, 100% of them to a higher quarter",
        "error of a held-out reward is 0.125; of the mean reward it is 2",
        "1,234",
        "<b>rewards</b> & more",  # as text, not as an element
        "tskd-jax replay",
    ):
        assert said in page.text, said
    assert not page.all("b")
    assert all(image["alt"] for image in page.all("img"))
    drawings = page.all("svg")
    assert len(drawings) == len(figures)
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)


def test_a_page_is_alone_and_well_formed(text):
    page = Page(text)
    assert not page.all("script")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    targets = [a["href"].removeprefix("#") for a in page.all("a")]
    assert set(targets) <= set(ids)
    assert "@import" not in text
    for drawing in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        root = ElementTree.fromstring(drawing)
        inside = set(re.findall(r'id="([^"]+)"', drawing))
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', drawing)
        assert set(used) <= inside
        assert root.get("viewBox")


def test_made_again_it_is_the_same(folder, text):
    assert html.page(folder, make_summary()) == text


def test_scores_of_the_paper_only_beside_its_data(folder):
    config = make_summary()["config"] | {"dataset": {"path": "hopper-medium-v2"}}
    page = Page(html.page(folder, make_summary(config=config)))
    assert "83.2" not in page.text
    assert "the paper" not in page.text.lower()


def test_a_folder_of_which_nothing_else_is_left(tmp_path):
    (tmp_path / material.FILE).write_bytes(b"no archive")
    (tmp_path / "metrics.csv").write_text("stage,key\nbroken")
    old = make_summary(stages={}, student=None)
    del old["task"]  # of an earlier version
    page = Page(html.page(tmp_path, old))
    figures = [figure["id"] for figure in page.all("figure")]
    assert figures == ["figure-scores", "figure-time"]


def test_curves_are_thinned_and_the_last_word_counts(folder):
    curves = html.read_curves(folder / "metrics.csv")
    assert list(curves) == ["student", "world"]
    assert len(curves["student"]) == 2
    steps, loss = curves["student"][0]
    assert len(steps) == html.POINTS
    assert (steps[0], steps[-1]) == (1, 399)
    np.testing.assert_allclose(loss, 1.0 / steps)
    ((steps, loss),) = curves["world"]
    assert steps.tolist() == [1, 2]
    assert loss.tolist() == [3.0, 1.5]


def test_what_is_kept_for_a_report(tiny_trajectories):
    found = material.collect(tiny_trajectories, stitched(tiny_trajectories))
    np.testing.assert_allclose(found["returns"], tiny_trajectories.returns())
    kept = np.zeros(24)
    kept[:2] = 1
    kept[4] = 2 / 10  # two of its ten steps stayed as recorded
    np.testing.assert_allclose(found["kept"], kept, rtol=1e-6)
    assert found["after_0"].shape == (3, 3)
    np.testing.assert_array_equal(found["stitched_0"], [False, False, True])
    begun = tiny_trajectories.starts[4]
    np.testing.assert_array_equal(
        found["before_0"][:, :2], tiny_trajectories.observations[begun : begun + 10, :2]
    )
    assert "after_1" not in found
    row = int(np.flatnonzero((tiny_trajectories.observations == found["states"][7]).all(1))[0])
    episode = tiny_trajectories.episode_of[row]
    assert found["state_returns"][7] == tiny_trajectories.returns()[episode]


def test_moves_between_quarters_by_hand(tiny_trajectories):
    # 24 episodes: six in each quarter of returns.
    order = np.argsort(tiny_trajectories.returns(), kind="stable")
    starts = tiny_trajectories.starts[order]
    left, entered = starts[[0, 5, 6, 23]], starts[[23, 18, 5, 23]]
    found = moves(tiny_trajectories, left, entered)
    assert len(found) == 16
    assert {name: count for name, count in found.items() if count} == {
        **{"1 to 4": 2, "2 to 1": 1, "4 to 4": 1}
    }


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine")
def test_in_a_browser(folder, text, tmp_path):
    page, other = folder / html.FILE, tmp_path / "other.html"
    other.write_text(text.replace("<main", '<img src="https://example.org/a.png" alt=""><main'))
    with browser(tmp_path / "profile") as opened:
        for width, scheme in ((360, "dark"), (1440, "light")):
            opened.call(
                "Emulation.setDeviceMetricsOverride",
                **{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
            )
            feature = {"name": "prefers-color-scheme", "value": scheme}
            opened.call("Emulation.setEmulatedMedia", features=[feature])
            opened.open(page)
            assert opened.requests() == [page.as_uri()]
            assert opened.complaints() == []
            assert opened.value("document.querySelectorAll('figure svg[role=img]').length") == 7
            # Nothing makes the page itself wider than the screen.
            assert opened.value("document.documentElement.scrollWidth") <= width
            color = opened.value("getComputedStyle(document.body).backgroundColor")
            assert color == ("rgb(18, 22, 28)" if scheme == "dark" else "rgb(255, 255, 255)")
            ink = opened.value("getComputedStyle(document.querySelector('svg text')).fill")
            assert ink == opened.value("getComputedStyle(document.body).color")
        # Of a page that asks for something elsewhere both would be seen.
        opened.open(other)
        assert "https://example.org/a.png" in opened.requests()
        assert len(opened.complaints()) == 1
