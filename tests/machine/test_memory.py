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
    monkeypatch.setattr(memory, "ROOT", tmp_path)  # no limit
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.partition(":")[0]: 1024 * int(line.split()[1]) for line in lines}
    free, total = memory.of_host()
    assert total == sizes["MemTotal"]
    # Other programs allocate in between.
    assert free == pytest.approx(sizes["MemAvailable"], abs=0.2 * total)


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes /proc/self/cgroup, and files of control groups below /sys/fs/cgroup, by their path."""
    monkeypatch.setattr(memory, "ROOT", tmp_path)

    def write(lines: str, files: dict[str, object]) -> None:
        files = {f"sys/fs/cgroup/{name}": content for name, content in files.items()}
        for name, content in {"proc/self/cgroup": lines, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    return write


def test_a_containers_limit_counts(groups):
    free, total = memory.of_host()
    assert 0 < free <= total
    # What only caches files makes room when it is asked to.
    stat = "anon 300000\ninactive_file 50000\nactive_file 9"
    files = {"memory.max": 1_000_000, "memory.current": 450_000, "memory.stat": stat}
    groups("0::/", files)
    assert memory.of_host() == (600_000, 1_000_000)
    groups("0::/", {"memory.max": 300_000})  # already exceeded
    assert memory.of_host() == (0, 300_000)
    groups("0::/", {"memory.max": "max"})
    assert memory.of_host()[1] >= total


V1 = {
    "limit_in_bytes": 1_000_000,
    "usage_in_bytes": 450_000,
    # The first is the group's own, the second also that of the groups in it.
    "stat": "inactive_file 1\ntotal_inactive_file 50000",
}
V2 = {"max": 1_000_000, "current": 450_000, "stat": "inactive_file 50000"}


@pytest.mark.parametrize(
    ("lines", "folder", "numbers"),
    [
        ("0::/slice/job", "slice/job", V2),
        ("0::/slice/job/step", "slice/job", V2),  # limited by what contains it
        ("0::/../other", ".", V2),
        ("0::/docker/abc", ".", V2),  # of the host, as a container sees it
        ("1:name=systemd:/\n0::/job", "unified/job", V2),
        ("9:cpu,cpuacct:/job\n4:memory:/slurm/job\n0::/", "memory/slurm/job", V1),
        ("4:memory:/slurm/job", "memory/slurm", V1),
        ("4:hugetlb,memory:/docker/abc", "memory", V1),
    ],
)
def test_limits_of_nested_groups_and_of_both_versions_count(groups, lines, folder, numbers):
    groups(lines, {f"{folder}/memory.{name}": number for name, number in numbers.items()})
    assert memory.of_host() == (600_000, 1_000_000)


def test_the_smallest_of_several_limits_counts(groups):
    files = {"a/memory.max": 900_000, "a/memory.current": 850_000}
    groups("0::/a/b", files | {"a/b/memory.max": 700_000, "a/b/memory.current": 1000})
    assert memory.of_host() == (50_000, 700_000)


@pytest.mark.parametrize("lines", ["", "nonsense", "0::", "3:cpu:/a"])
def test_other_groups_limit_nothing(groups, lines):
    groups(lines, {"a/memory.max": 1000, "a/memory.current": 10})
    assert memory.of_host()[1] > 1000


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
