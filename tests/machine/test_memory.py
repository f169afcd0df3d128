"""How much memory there is, and the errors when it is not enough."""

from pathlib import Path

import numpy as np
import pytest

from tskd_jax.errors import OutOfMemoryError
from tskd_jax.machine import memory


@pytest.mark.parametrize(
    ("size", "words"),
    [(512, "1 kB"), (3.2e6, "3.2 MB"), (1.25e9, "1.2 GB"), (8e15, "8000000.0 GB")],
)
def test_readable(size, words):
    assert memory.readable(size) == words


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux alone has this file")
def test_the_hosts_memory_is_what_the_system_reports(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)  # no limit
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.partition(":")[0]: 1024 * int(line.split()[1]) for line in lines}
    free, total = memory.of_host()
    assert total == sizes["MemTotal"]
    # Other programs allocate in between.
    assert free == pytest.approx(sizes["MemAvailable"], abs=0.2 * total)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    free, total = memory.of_host()
    assert 0 < free <= total
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("450000\n")
    # What only caches files makes room when it is asked to.
    (tmp_path / "memory.stat").write_text("anon 300000\ninactive_file 50000\nactive_file 9\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.of_host() == (600_000, 1_000_000)
    (tmp_path / "memory.max").write_text("300000\n")  # already exceeded
    assert memory.of_host() == (0, 300_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.of_host()[1] >= total


def test_more_than_the_machine_has_is_refused():
    memory.check("model", 1000)
    with pytest.raises(OutOfMemoryError, match=r"model: needs about .* this machine has"):
        memory.check("model", 2**62)


def test_running_out_is_named():
    with (
        pytest.raises(OutOfMemoryError, match=r"model: out of memory; it needs about 5\.0 MB"),
        memory.named("model", 5_000_000),
    ):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5000000 bytes.")
    with pytest.raises(ZeroDivisionError), memory.named("model", 1):
        raise ZeroDivisionError


def test_a_program_takes_its_arguments_and_results_at_least():
    import jax

    x = jax.ShapeDtypeStruct((1000, 250), np.float32)  # a million bytes
    size = memory.of_program(jax.jit(lambda x: x + 1).lower(x).compile())
    assert 2_000_000 <= size <= 3_000_000


def test_a_call_is_measured_before_it_is_made():
    import jax

    x = np.ones((1000, 250), np.float32)
    size = memory.of_call(jax.jit(lambda x, y: x * y), x, 2.0)
    assert 2_000_000 <= size <= 3_000_000


def test_what_does_not_fit_is_not_started(monkeypatch):
    monkeypatch.setattr(memory, "of_device", lambda: (3_000_000, 9_000_000))
    memory.make_sure(3_000_000)
    with pytest.raises(MemoryError, match=r"4\.0 MB are needed, 3\.0 MB are free") as caught:
        memory.make_sure(4_000_000)
    assert memory.is_exhausted(caught.value)
