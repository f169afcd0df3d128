"""Kills a run at random moments, alters its files, and looks whether the same students come out.

python -m experiments.hardening.torture --kills=30 --damages=10 --seed=0 --folder=runs/torture

A tiny run of the embedded data is made once in peace. Then others are killed (SIGKILL) at a random
moment of one stage after the other, started again with the same command, and so on to their end;
with --damages, a byte of one of their files is turned, or the file truncated, between two starts.
Every student must be that of the first run, bit for bit. Exit status 1 if one is not.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags

KILLS = flags.DEFINE_integer("kills", 30, "SIGKILLs, spread over all stages.")
DAMAGES = flags.DEFINE_integer("damages", 10, "Files altered between two starts.")
SEED = flags.DEFINE_integer("seed", 0, "Of moments, files and bytes.")
FOLDER = flags.DEFINE_string("folder", "runs/torture", "Where the runs are; removed in the end.")

ROOT = Path(__file__).parents[2]
# A run of half a minute, nearly all of it start and compilation, with a checkpoint every chunk.
TINY = (
    "--config.steps_multiplier=0.002",
    "--config.trajectory_generator.features=8",
    "--config.trajectory_generator.multipliers=(1,2)",
    "--config.reward_generator.features=8",
    "--config.reward_generator.multipliers=(1,2)",
    "--config.sampling.steps=3",
    "--config.reward_sampling.steps=3",
    "--config.imagination.trajectories=3",
    "--config.imagination.min_likelihood_quantile=0.0",
    "--config.evaluation.episodes=2",
    "--config.evaluation.simulator_check=20",
    "--config.seeds=(0,1)",
    "--config.checkpoint_seconds=0.01",
)
DATASET = "dataset"  # it is read and checked, before all stages
REPORT = "report"  # the results are written, behind all stages


class Torture:
    """Runs in one folder, and what was seen of them."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.moments: list[str] = []
        self.damages: list[str] = []
        self.failures: list[str] = []

    def start(self, name: str) -> subprocess.Popen:
        """The same command as ever."""
        argv = [sys.executable, "-m", "tskd_jax.main", f"--workdir={self.folder / name}"]
        argv += [f"--config={ROOT / 'configs/hopper.py'}", *TINY]
        # Compiled once: most of a tiny run's time would be compilation, and so would be most kills.
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        log = (self.folder / f"{name}.log").open("a")
        return subprocess.Popen(
            argv, cwd=ROOT, env=os.environ | cache, stdout=subprocess.DEVNULL, stderr=log
        )

    def finish(self, name: str) -> None:
        """Let a run end, and compare its students with those of the first."""
        code = self.start(name).wait()
        if code:
            self.failures.append(f"{name} ended with status {code}")
        elif students(self.folder / name) != students(self.folder / "whole"):
            self.failures.append(f"{name} has other students")
        else:
            shutil.rmtree(self.folder / name)

    def kill_in(self, name: str, part: str) -> bool:
        """Start a run and kill it at a random moment of one of its parts; whether it still ran."""
        awaited = self.parts[self.parts.index(part) - 1] if part != DATASET else None
        process = self.start(name)
        while awaited and awaited not in parts_done(self.folder / name):
            if process.poll() is not None:
                self.failures.append(f"{name} ended with status {process.poll()} before {part}")
                return False
            time.sleep(0.01)
        time.sleep(self.random.uniform(0, self.seconds[part]))
        process.kill()
        ended = process.wait() == 0
        done = len(parts_done(self.folder / name))
        steps = sorted(
            f"{p.parent.name} {p.name}" for p in (self.folder / name).glob("training/*/[0-9]*")
        )
        moment = "too late" if ended else f"{done} parts done, checkpoints: {steps or 'none'}"
        self.moments.append(f"{name}, {part}: {moment}")
        print(self.moments[-1], flush=True)
        return not ended

    def damage(self, name: str) -> bool:
        """Alter one of the files that a run believes in; False where there is none yet."""
        folder = self.folder / name
        parts = ("stages/**/*", "training/**/*", "*.json")
        found = sorted(p for part in parts for p in folder.glob(part) if p.is_file())
        found = [p for p in found if p.stat().st_size]
        if not found:  # killed before it wrote anything
            return False
        path = self.random.choice(found)
        content = bytearray(path.read_bytes())
        at = self.random.randrange(len(content))
        if self.random.random() < 0.5:
            path.write_bytes(content[:at])
            how = f"truncated to {at} of {len(content)} bytes"
        else:
            content[at] ^= 1 << self.random.randrange(8)
            path.write_bytes(content)
            how = f"a bit of byte {at} of {len(content)} turned"
        self.damages.append(f"{path.relative_to(self.folder)}: {how}")
        print(self.damages[-1], flush=True)
        return True

    def measure(self) -> None:
        """The first run, in peace; its parts, and how long each takes once all is compiled."""
        for name in ("compiling", "whole"):
            begin = time.monotonic()
            code = self.start(name).wait()
            if code:
                raise SystemExit(f"the undisturbed run ended with status {code}")
            seconds = time.monotonic() - begin
        manifest = json.loads((self.folder / "whole" / "manifest.json").read_text())
        self.parts = [*parts_done(self.folder / "whole"), REPORT]
        self.seconds = {stage["name"]: stage["seconds"] for stage in manifest["stages"].values()}
        # What no stage accounts for is start and report.
        rest = max(1.0, seconds - sum(self.seconds.values()))
        self.seconds |= {DATASET: rest / 2, REPORT: rest / 2}
        print(f"in peace: {seconds:.0f} s; seconds of the parts: {self.seconds}", flush=True)


def parts_done(folder: Path) -> list[str]:
    """The dataset and the stages that a run's manifest calls done, by name and in order."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        dataset = [DATASET] if DATASET in manifest.get("notes", {}) else []
        return dataset + [stage["name"] for stage in manifest["stages"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def students(folder: Path) -> dict[str, bytes]:
    """The bits of all students of a run."""
    found = {}
    for path in sorted(folder.glob("students/*/*.npz")):
        with np.load(path) as arrays:
            for key in sorted(arrays.files):
                found[f"{path.relative_to(folder)} {key}"] = arrays[key].tobytes()
    return found


def main(_argv) -> None:
    folder = Path(FOLDER.value).absolute()
    folder.mkdir(parents=True)
    torture = Torture(folder, SEED.value)
    torture.measure()
    parts = torture.parts

    def go_through(name: str, count: int, alter: bool) -> int:
        """Kill a new run up to `count` times, in the parts' order, and let it end."""
        chosen = torture.random.sample(range(len(parts)), min(count, len(parts)))
        made = 0
        for index in sorted(chosen):
            killed = torture.kill_in(name, parts[index])
            made += torture.damage(name) if alter else killed
        torture.finish(name)
        return made

    for alter, wanted in ((False, KILLS.value), (True, DAMAGES.value)):
        number = 0
        while wanted > 0 and not torture.failures:
            name = f"{'damaged' if alter else 'killed'}-{number}"
            wanted, number = wanted - go_through(name, wanted, alter), number + 1
    logs = "".join(path.read_text() for path in folder.glob("damaged-*.log"))
    reports = sum(": it" in line or "damaged" in line for line in logs.splitlines())
    late = sum(moment.endswith("too late") for moment in torture.moments)
    print(
        f"{len(torture.moments) - late} kills and {len(torture.damages)} damages ({reports} lines "
        f"report one), seed {SEED.value}: "
        + ("; ".join(torture.failures) or "always the same students")
    )
    if torture.failures:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    app.run(main)
