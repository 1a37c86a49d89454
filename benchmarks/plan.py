"""What `plan` foretells from a short try against what a training then takes.

Time and peak memory, for every recipe that runs here.

    python benchmarks/plan.py                  # or names of recipes; --steps 200, --rounds 1

Each recipe is planned and then trained with the same settings, in processes of their own. Times are
those that `plan` foretells for the training without its final test and `train` reports, without the
import of the libraries; memory is the largest resident set of each process, by the operating
system.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = {
    "mnist_mlp": 20_000,
    "mnist_cnn": 200,
    "mnist_lstm": 400,
    "mnist_vit": 300,
    "cifar10_cnn": 60,
    "sotu_gpt": 100,
    "shakespeare_char_gpt": 300,
    "shakespeare_char_gpt_fast": 300,
    "shakespeare_lstm": 100,
}


def call(door: str, words: list[str]) -> tuple[dict, float]:
    """A command's JSON and its largest resident set in MB."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tfbig.{door}", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(
            err.strip().splitlines()[-1] if err.strip() else f"exit code {process.returncode}"
        )
    return json.loads(out), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def compare(recipe: str, steps: int, folder: Path) -> dict:
    settings = [recipe, f"train.length={steps}", "train.evaluate_every=50%", "train.save_every=25%"]
    planned, _ = call("plan", settings)
    made, peak = call("train", [*settings, f"run={folder / recipe}_{len(list(folder.iterdir()))}"])
    batch = planned["examples_per_s"] * planned["step_ms"] / 1e3
    return {
        "seconds": (planned["seconds"] - planned["test_seconds"], made["seconds"]),
        "step_ms": (planned["step_ms"], 1e3 * batch / made["examples_per_s"]),
        "peak_mb": (planned["peak_memory_mb"], peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", help=f"of {', '.join(STEPS)}; by default all of them")
    parser.add_argument(
        "--steps", type=int, help="of each training; by default what takes some twenty seconds"
    )
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    print(
        f"{'recipe':<26}{'seconds':>20}{'ms a step':>22}{'peak MB':>20}   foretold, measured,"
        " ratio",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for recipe in given.recipes or STEPS:
            try:
                rounds = [
                    compare(recipe, given.steps or STEPS.get(recipe, 100), Path(folder))
                    for _ in range(given.rounds)
                ]
            except RuntimeError as error:
                print(f"{recipe:<26} {error}", flush=True)
                continue
            cells = []
            for name, width in (("seconds", 20), ("step_ms", 22), ("peak_mb", 20)):
                said, seen = (statistics.median(one[name][i] for one in rounds) for i in (0, 1))
                cells.append(f"{said:,.4g} {seen:,.4g} {said / seen:.2f}".rjust(width))
            print(f"{recipe:<26}{''.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
