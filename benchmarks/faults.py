"""A campaign of faults against one training.

Kills, terminations, damaged checkpoints; and what they cost.

    python benchmarks/faults.py --kills 200 --terms 50 --flips 1000
    # One kill a minute: what is left of the speed
    python benchmarks/faults.py --kills 0 --terms 0 --flips 0 --goodput 10

The training is `mnist_mlp` with Dropout and random shifts, a checkpoint every few steps. Half of
the kills wait for a checkpoint write to be under way. At the end weights, optimiser and history are
compared, bit for bit, with a training that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tfbig.engine import checkpoint

SETTINGS = (
    "mnist_mlp",
    "model.dropout=0.3",
    "task.crop_padding=2",
    "train.batch_size=32",
    "train.evaluate_every=1000",
    "train.final_split=none",
    "data.validation=500",
    "device.block=10",
)
EVERY = 10  # steps between checkpoints


def start(path: Path, length: int, save_every: int = EVERY) -> subprocess.Popen:
    fresh = not (path / "config.json").exists()
    words = (
        [*SETTINGS, f"train.save_every={save_every}", f"train.length={length}", f"run={path}"]
        if fresh
        else ["--resume", str(path)]
    )
    return subprocess.Popen(
        [sys.executable, "-m", "tfbig.train", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def newest(path: Path) -> int:
    return max(checkpoint.steps(path / "checkpoints"), default=0)


def log_step(path: Path) -> int:
    lines = (
        (path / "metrics.jsonl").read_text().splitlines()
        if (path / "metrics.jsonl").exists()
        else []
    )
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def disturb(path: Path, length: int, count: int, signum: int, dice: random.Random) -> dict:
    """Interrupts a training `count` times, then lets it end; returns what was seen."""
    seen = {"sent": 0, "inside_a_write": 0, "most_steps_lost": 0}
    share = max(1, length // (count + 1))
    while True:
        process, first = start(path, length), newest(path)
        aim, in_write = first + dice.randint(EVERY, 2 * share), dice.random() < 0.5
        while process.poll() is None:
            writing = any((path / "checkpoints").glob(".*.tmp"))
            if seen["sent"] < count and newest(path) >= aim and writing >= in_write:
                process.send_signal(signum)
                seen["sent"] += 1
                seen["inside_a_write"] += writing
                break
            time.sleep(0.0003 if in_write else 0.002)
        _, err = process.communicate()
        if process.returncode == 0:
            return seen
        if process.returncode != (-9 if signum == signal.SIGKILL else 143):
            raise SystemExit(f"the training ended with {process.returncode}:\n{err}")
        seen["most_steps_lost"] = max(seen["most_steps_lost"], log_step(path) - newest(path))


def same(a: Path, b: Path, step: int) -> bool:
    """Weights, optimiser and evaluations, byte for byte."""
    files = [
        f"checkpoints/{checkpoint.folder_name(step)}/{name}"
        for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER)
    ]

    def history(path):
        return [
            {key: line[key] for key in ("step", "metrics")}
            for line in map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
            if line["kind"] == "evaluation"
        ]

    return all((a / name).read_bytes() == (b / name).read_bytes() for name in files) and history(
        a
    ) == history(b)


def is_intact(folder: Path) -> bool:
    try:
        state = checkpoint.read_state(folder)
        return all(
            checkpoint.read_file(folder, name, state) is not None
            for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER)
        )
    except ValueError:
        return False


def damage(path: Path, step: int, flips: int, dice: random.Random) -> dict:
    """Every truncation at 4 KiB and many single flipped bits: how many were found out."""
    folder = path / "checkpoints" / checkpoint.folder_name(step)
    found = {"truncations": 0, "flips": 0, "missed": 0}
    contents = {file: file.read_bytes() for file in sorted(folder.iterdir())}
    assert is_intact(folder)

    def attempt(file: Path, content: bytes, kind: str) -> None:
        file.write_bytes(content)
        found[kind] += 1
        found["missed"] += is_intact(folder)
        file.write_bytes(contents[file])

    for file, content in contents.items():
        for size in range(0, len(content), 4096):
            attempt(file, content[:size], "truncations")
    for _ in range(flips):
        file = dice.choice(list(contents))
        content, place = bytearray(contents[file]), dice.randrange(len(contents[file]) * 8)
        content[place // 8] ^= 1 << (place % 8)
        attempt(file, bytes(content), "flips")
    return found


def steps_in(path: Path, seconds: float, kill_every: float | None) -> int:
    """The steps that are saved after so many seconds of training, started again at once after each
    kill.
    """
    begun = time.monotonic()
    while (left := seconds - (time.monotonic() - begun)) > 0:
        process = start(path, 10**9, save_every=500)
        try:
            process.wait(min(left, kill_every or left))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            raise SystemExit(f"the training ended by itself:\n{process.stderr.read()}")
    return newest(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--terms", type=int, default=50)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument(
        "--goodput",
        type=float,
        default=0,
        metavar="MINUTES",
        help="train so long undisturbed, and as long with a kill each minute",
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dice = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        for name, count, signum in (
            ("kills", given.kills, signal.SIGKILL),
            ("terms", given.terms, signal.SIGTERM),
        ):
            if not count:
                continue
            length = 100 * (count + 1)
            whole, path = Path(folder, f"whole_{name}"), Path(folder, name)
            at = time.monotonic()
            assert start(whole, length).wait() == 0
            undisturbed = time.monotonic() - at
            at = time.monotonic()
            seen = disturb(path, length, count, signum, dice)
            print(
                name,
                json.dumps(
                    {
                        **seen,
                        "bit_equal": same(whole, path, length),
                        "seconds": round(time.monotonic() - at),
                        "undisturbed_seconds": round(undisturbed),
                    }
                ),
                flush=True,
            )
        if given.goodput:
            whole, killed = (
                steps_in(Path(folder, f"goodput_{every}"), 60 * given.goodput, every)
                for every in (None, 60)
            )
            print(
                "goodput",
                json.dumps(
                    {
                        "minutes": given.goodput,
                        "steps_undisturbed": whole,
                        "steps_with_kills": killed,
                        "goodput": round(killed / whole, 4),
                    }
                ),
                flush=True,
            )
        if not given.flips:
            return
        if not (given.kills or given.terms):
            path, length = Path(folder, "damaged"), 100
            assert start(path, length).wait() == 0
        print("damage", json.dumps(damage(path, length, given.flips, dice)), flush=True)


if __name__ == "__main__":
    main()
