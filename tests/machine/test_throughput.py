"""Counted operations, by hand, and the machine's peak."""

import jax
import jax.numpy as jnp

from tskd_jax.machine.platform import lowering_for
from tskd_jax.machine.throughput import matmul_flops, matmul_peak
from tskd_jax.nn.convolution import convolution_form
from tskd_jax.nn.unet import TemporalUNet


def test_products_are_counted_twice_an_entry_and_contracted_size():
    x, y = jnp.ones((3, 5)), jnp.ones((5, 7))
    assert matmul_flops(jnp.matmul, x, y) == 2 * 3 * 5 * 7
    assert matmul_flops(lambda x: x + 1, x) == 0
    batched = jax.vmap(jnp.matmul, (0, None))
    assert matmul_flops(batched, jnp.ones((4, 3, 5)), y) == 4 * 2 * 3 * 5 * 7


def test_loops_calls_and_branches():
    x = jnp.ones((4, 4))
    once = 2 * 4**3

    def scan(x):
        return jax.lax.scan(lambda c, _: (c @ x, None), x, None, length=6)[0]

    def loop(x):
        return jax.lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c @ x, x)

    def branch(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert matmul_flops(scan, x) == 6 * once
    assert matmul_flops(loop, x) == once
    assert matmul_flops(branch, x) == 2 * once
    assert matmul_flops(jax.jit(lambda x: x @ x), x) == once
    assert matmul_flops(jax.checkpoint(lambda x: x @ x), x) == once


def test_a_convolution_counts_alike_in_all_forms():
    # Batch 2, horizon 8, levels of 8 and 16 channels.
    network = TemporalUNet(8, (1, 2))
    one = jnp.ones(2)
    x, step = jnp.ones((2, 8, 3)), jnp.zeros(2, jnp.int32)
    params = jax.eval_shape(network.init, jax.random.key(0), x, step, one, one)
    counts = []
    for form in ("matmul", "lax"):
        with convolution_form(form):
            counts.append(matmul_flops(lambda *a: network.apply(*a), params, x, step, one, one))
    with lowering_for("tpu"):  # with zeros inserted, which do not count
        counts.append(matmul_flops(lambda *a: network.apply(*a), params, x, step, one, one))
    assert counts[0] == counts[1] == counts[2] > 0


def test_the_papers_network_costs_what_its_layers_say():
    # Multiplications a sample at H = 120, level by level (time × Σ taps · in · out): down 128:
    # 120 · 254,976; halving 60 · 49,152; 512: 60 · 4,325,376; halving 30 · 786,432; 1024:
    # 30 · 18,874,368; middle 30 · 20,971,520; up 512: 30 · 10,223,616 and doubled 30 · 1,048,576;
    # 128: 60 · 1,032,192 and doubled 60 · 65,536; last 120 · (81,920 + 128 · 12); the embeddings
    # 2 · 65,536 · 2 + 128 + Σ over blocks of 256 · channels.
    convolutions = (
        120 * 254_976
        + 60 * 49_152
        + 60 * 4_325_376
        + 30 * 786_432
        + 30 * (18_874_368 + 20_971_520 + 10_223_616 + 1_048_576)
        + 60 * (1_032_192 + 65_536)
        + 120 * (81_920 + 1_536)
    )
    blocks = 256 * (2 * 128 + 2 * 512 + 4 * 1024 + 2 * 512 + 2 * 128)
    embeddings = 4 * 65_536 + 128 + blocks
    network = TemporalUNet()
    one = jnp.ones(1)
    x, step = jnp.zeros((1, 120, 12)), jnp.zeros(1, jnp.int32)
    params = jax.eval_shape(network.init, jax.random.key(0), x, step, one, one)
    flops = matmul_flops(network.apply, params, x, step, one, one)
    assert flops == 2 * (convolutions + embeddings)


def test_the_peak_is_measured_once_and_plausible():
    peak = matmul_peak()
    assert 1e8 < peak < 1e16
    assert matmul_peak() == peak
