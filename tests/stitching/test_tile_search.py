"""Tests of the tiled kernel: it finds the true answer, or what single precision takes for one."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_neighbours import DIMENSIONS, cloud, density_case, distances, far, grid, log_normal
from test_tree_search import first_rank, floors

from tskd_jax.stitching import tile_search
from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.rounding import upwards
from tskd_jax.stitching.tile_search import Tile, first_candidate

# For 40 queries and 150 states: many tiles of each, and five ranges that double; or one of all.
TILES = [Tile(8, 8), Tile(16, 32), Tile(8, 256), Tile(64, 8), Tile(4096, 16384)]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("dimension", [1, 3, 11])
def test_the_first_candidate(tile, dimension):
    for seed in range(12):
        rng = np.random.default_rng([seed, dimension])
        x, y = cloud(rng, dimension)
        apart = np.sort(distances(x, y), axis=None)
        # In the widest of some gaps: no pair is at the radius within what rounding can do.
        first = [40, 200, 1000, 3000][seed % 4]
        gap = first + np.diff(apart[first : first + 200]).argmax()
        radius = (apart[gap] + apart[gap + 1]) / 2
        assert (np.abs(apart / radius - 1) > 1e-5).all()
        above = floors(rng, len(x), len(y))
        found = first_candidate(x, y, above, float(radius), None, tile)
        expected = first_rank(distances(x, y) <= radius, above)
        np.testing.assert_array_equal(found, expected, f"{seed=}")


@pytest.mark.parametrize("tile", TILES)
def test_the_first_candidate_of_a_density(tile):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, y, test = density_case(rng, 3)
        test.threshold[:2] = -np.inf, np.inf  # everything passes, and nothing
        densities = log_normal(y[None, :, None], test.mean[:, None], test.deviation[:, None])
        passes = densities.min(-1) > test.threshold[:, None]
        above = floors(rng, len(x), len(y))
        for radius in (1.0, np.inf):
            found = first_candidate(x, y, above, radius, test, tile)
            expected = first_rank((distances(x, y) <= radius) & passes, above)
            np.testing.assert_array_equal(found, expected, f"{seed=} {radius=}")


@pytest.mark.parametrize("tile", TILES)
def test_answers_in_every_tile(tile):
    # State r lies at 10 r: the query there is answered by r alone, and the last ones go through
    # all ranges while the others drop out.
    rng = np.random.default_rng(0)
    y = 10.0 * np.arange(150)[:, None]
    rank = rng.permutation(150)
    above = np.full(150, 150)
    assert first_candidate(y[rank], y, above, 1.0, None, tile).tolist() == rank.tolist()
    # Where the rank is not below the floor's, the floor's is given.
    above = rng.integers(0, 151, size=150)
    expected = np.where(rank < above, rank, above)
    assert first_candidate(y[rank], y, above, 1.0, None, tile).tolist() == expected.tolist()


@pytest.mark.parametrize(("queries", "states"), [(1, 1), (1, 9), (9, 1), (3, 8), (8, 17), (17, 16)])
def test_what_fills_a_tile_up_is_not_found(queries, states):
    # States are padded with zeros, where the queries are.
    x, y = np.zeros((queries, 2)), np.ones((states, 2))
    above = np.full(queries, states)
    for tile in TILES:
        assert first_candidate(x, y, above, 1.0, None, tile).tolist() == queries * [states]
        assert first_candidate(x, y, above, 1.5, None, tile).tolist() == queries * [0]


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e3, 1e15])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_state_on_the_radius_is_not_missed(dimension, scale):
    # Each query has one state at the radius, which single precision puts outside half of the time.
    rng = np.random.default_rng(dimension)
    y = rng.normal(size=(150, dimension)).astype(np.float32) * np.float32(scale)
    direction = rng.normal(size=y.shape)
    direction *= 0.01 * scale / np.sqrt(np.square(direction).sum(1, keepdims=True))
    x = (y + direction).astype(np.float32)
    for q in range(0, 150, 10):
        radius = float(distances(x[q : q + 1], y[q : q + 1])[0, 0])
        above = np.full(150, 150)
        found = first_candidate(x, y, above, radius, None)
        expected = first_rank(distances(x, y) <= radius, above)
        assert expected[q] < 150
        assert (found <= expected).all()


@pytest.mark.parametrize("points", [grid, far])
@pytest.mark.parametrize("dimension", [1, 2, 3, 11])
def test_single_precision_misses_nothing(points, dimension):
    # Whole numbers, with many pairs exactly on the radius, moved where single precision cannot
    # hold them; and doubles at 10⁴.
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, y = points(rng, dimension)
        shift = [0, 0.1, 1e4 + 0.1, 1e8 / 3][seed % 4]
        x, y = x + np.float64(shift), y + np.float64(shift)
        radius = float(np.sort(distances(x, y), axis=None)[[40, 400, 2000][seed % 3]])
        above = np.full(len(x), len(y))
        found = first_candidate(x, y, above, radius, None, Tile(64, 256))
        assert (found <= first_rank(distances(x, y) <= radius, above)).all(), seed


def test_single_precision_misses_nothing_that_passes():
    # State j is the first that passes the test of query j: nearer ones come later. At 10⁴ single
    # precision moves it by up to 0.0005, for half of them outwards.
    rng = np.random.default_rng(0)
    y = 1e4 + 0.01 * np.arange(150, 0, -1)[:, None] + rng.uniform(-0.002, 0.002, size=(150, 1))
    mean, deviation = np.full((150, 1, 1), np.float32(1e4)), np.ones((150, 1, 1), np.float32)
    test = GaussianTest(mean, deviation, log_normal(y, mean[0], deviation[0]) - 1e-9)
    found = first_candidate(y, y, np.full(150, 150), 9.0, test)
    assert (found <= np.arange(150)).all()


@pytest.mark.parametrize("origin", [1e3, 1e4])
def test_far_from_the_origin_differences_keep_their_digits(origin):
    # Candidates are verified, but nobody repairs what the kernel misses.
    rng = np.random.default_rng(0)
    x, y = ((origin + rng.uniform(-0.15, 0.15, size=(150, 3))).astype(np.float32) for _ in "xy")
    apart = np.sort(distances(x, y), axis=None)
    radius = apart[(apart > 0.099)][:100]
    gap = np.diff(radius).argmax()
    radius = float((radius[gap] + radius[gap + 1]) / 2)
    assert (np.abs(apart / radius - 1) > 1e-5).all()
    naive = (x**2).sum(1)[:, None] - 2 * x @ y.T + (y**2).sum(1)[None] <= radius**2
    above = np.full(150, 150)
    expected = first_rank(distances(x, y) <= radius, above)
    assert (first_rank(naive, above) > expected).any()
    assert first_candidate(x, y, above, radius, None).tolist() == expected.tolist()


def steps(monkeypatch, ranks, above, tile) -> int:
    """How many tiles of pairs are compared for queries whose answers have these ranks."""
    count = 0
    squares = tile_search._squares

    def counted(*columns):
        nonlocal count
        count += 1
        return squares(*columns)

    monkeypatch.setattr(tile_search, "_squares", counted)
    states = 10 * jnp.arange(64.0)[None]
    ranks = jnp.array(ranks)
    columns = 10.0 * ranks[:, None], jnp.ones(len(ranks)), None
    with jax.disable_jit():  # loops are Python's, and each step is seen
        found = tile_search._search_shard(columns, jnp.array(above), states, tile=tile)
    assert found.tolist() == jnp.minimum(ranks, jnp.array(above)).tolist()
    return count


@pytest.mark.parametrize(
    ("ranks", "above", "expected"),
    [
        # Tiles of 8 by 8 and 64 states: ranges of 8, 16, 32 and the last 8.
        (range(8), 8 * [64], 1),
        ([0] * 7 + [8], 8 * [64], 2),
        ([0] * 7 + [15], 8 * [64], 2),
        # The first half of the second range answers all.
        (range(8, 16), 8 * [64], 2),
        ([0] * 7 + [16], 8 * [64], 3),
        ([0] * 7 + [63], 8 * [64], 8),
        # Floors: nothing to ask, or nothing beyond the first range.
        ([63] * 8, 8 * [0], 0),
        ([63] * 8, 8 * [8], 1),
        ([63] * 8, [*range(1, 8), 9], 2),
        # Those with nothing to ask make way for the others.
        ([63] * 8 + [*range(8)], [0] * 8 + [64] * 8, 1),
        # Two tiles of queries. One query of each goes on, and from then on they share a tile.
        ([0] * 7 + [63] + [0] * 7 + [63], 16 * [64], 2 + 7),
        # So do the two that are not stopped by their floors.
        (16 * [63], 2 * (7 * [8] + [64]), 2 + 7),
        # They come together at the end of a range alone: of the second, at 24.
        (2 * (7 * [8] + [63]), 16 * [64], 2 + 2 * 2 + 5),
        # All of them go on.
        (16 * [63], 16 * [64], 2 * 8),
    ],
)
def test_the_kernel_stops_early(monkeypatch, ranks, above, expected):
    assert steps(monkeypatch, list(ranks), above, Tile(8, 8)) == expected


@pytest.mark.parametrize(("device", "expected"), [("cpu", Tile(16, 8)), ("gpu", Tile(8, 16))])
def test_the_tile_goes_by_device(monkeypatch, device, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    monkeypatch.setattr(tile_search, "CPU_TILE", Tile(16, 8))
    monkeypatch.setattr(tile_search, "ACCELERATOR_TILE", Tile(8, 16))
    tiles = []
    search = tile_search._search

    def record(*arguments, tile, mesh):
        tiles.append(tile)
        return search(*arguments, tile=tile, mesh=mesh)

    record.lower = search.lower
    monkeypatch.setattr(tile_search, "_search", record)
    x, y = cloud(np.random.default_rng(0), 3)
    above = np.full(len(x), len(y))
    expected_rank = first_rank(distances(x, y) <= 0.5, above)
    assert first_candidate(x, y, above, 0.5, None).tolist() == expected_rank.tolist()
    # No larger than needed: 8 is the least.
    first_candidate(x[:1], y[:1], above[:1], 0.5, None)
    assert tiles == [expected, Tile(8, 8)]


def test_upwards():
    limit = np.array([0.0, 0.1, 1.0, 1 + 2.0**-24, -1.0, 1e39, np.inf])
    single = upwards(limit)
    assert single.dtype == np.float32
    assert (single >= limit).all()
    assert (single[:3] > limit[:3]).all()
    assert (single[3:5] - limit[3:5] < 2.0**-22).all()
    assert single[4] < 0
    assert np.isinf(single[5:]).all()


def test_power_of_two():
    counts = [0, 1, 8, 9, 16, 1000, 1025]
    assert [tile_search._power_of_two(n) for n in counts] == [8, 8, 8, 16, 16, 1024, 2048]


# Queries that divide by nothing: by 4 devices and a tile of 256 there are 21 too few.
ON_FOUR_DEVICES = """
import jax, numpy as np
from tskd_jax.stitching import tile_search
from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.neighbours import best_neighbour

jax.config.update("jax_disable_most_optimizations", True)
assert jax.device_count() == 4
shards = []
search = tile_search._search
def record(*arguments, **options):
    best = search(*arguments, **options)
    shards.append({shard.device.id: shard.data.shape for shard in best.addressable_shards})
    return best
record.lower = search.lower
tile_search._search = record
rng = np.random.default_rng(0)
y = rng.normal(size=(5000, 3)).astype(np.float32)
x = y[rng.integers(5000, size=1003)] + rng.normal(size=(1003, 3)).astype(np.float32) * 0.3
values, floor = rng.normal(size=5000), rng.normal(size=1003)
mean = np.stack([x, x + np.float32(0.1)], 1)
deviation = rng.uniform(0.1, 1, size=mean.shape).astype(np.float32)
test = GaussianTest(mean, deviation, np.full(1003, -2.0))
for count in (1003, 1):
    for options in ({}, {"floor": floor[:count]}, {"test": test.select(np.arange(count))}):
        arguments = x[:count], y, values, 0.25
        trees = best_neighbour(*arguments, backend="cpu", **options)
        tiles = best_neighbour(*arguments, backend="accelerator", **options)
        np.testing.assert_array_equal(trees, tiles)
        assert count == 1 or 0.1 < (trees[0] >= 0).mean() < 0.9
assert shards[0] == {device: (256,) for device in range(4)}, shards
assert shards[-1] == {device: (8,) for device in range(4)}, shards
print("agreed")
"""


def test_queries_are_spread_over_four_devices():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_FOUR_DEVICES], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "agreed\n", done.stderr
