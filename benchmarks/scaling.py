"""What several workers gain on one machine, what the loop itself costs, and how fast sums travel.

    python benchmarks/scaling.py --torch-python PATH     # --rounds 3 --steps 120

1. Training speed by one process that uses all cores against workers that share them, interleaved
rounds: examples/s, ratio.
2. Time per step of the loop against the same compiled steps called on one slab again and again: the
loop's own overhead.
3. Seconds to sum an array over two processes: TensorFlow's collective as used here against
PyTorch's gloo.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (100_000, 1_000_000, 10_000_000)  # float32 values, as many as a model has weights
TRAININGS = {
    "mnist_mlp": ["mnist_mlp", "train.batch_size=512"],
    "mnist_cnn": ["mnist_cnn", "train.batch_size=512"],
    "mnist_cnn, own statistics": [
        "mnist_cnn",
        "train.batch_size=512",
        "device.sync_batch_norm=false",
    ],
    "mnist_vit": ["mnist_vit", "train.batch_size=256"],
}


def speed(settings: list[str], workers: int, steps: int, folder: Path) -> float:
    """Examples a second of a training, without its first, compiling part."""
    path = folder / f"{workers}_{time.monotonic_ns()}"
    words = [
        *settings,
        f"train.length={steps}",
        f"train.evaluate_every={steps}",
        "train.final_split=none",
        "data.validation=500",
        f"run={path}",
    ]
    start = (
        ["tfbig.train", *words]
        if workers == 1
        else ["tfbig.launch", "--workers", str(workers), "--", "train", *words]
    )
    subprocess.run([sys.executable, "-m", *start], check=True, capture_output=True)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(
        [line["examples_per_s"] for line in lines if line["kind"] == "train"][1:]
    )


def overhead(steps: int = 2000) -> dict:
    """Microseconds a step: in the loop, and in the compiled program alone."""
    import tensorflow as tf

    import tfbig
    from tfbig.engine import loop
    from tfbig.engine.setup import Setup

    class Silent:
        restored = trained = evaluated = note = lambda *arguments: None

    experiment = tfbig.recipe(
        "mnist_mlp",
        "model.units=1",
        "train.batch_size=1",
        f"train.length={steps}",
        f"train.evaluate_every={steps}",
        "data.validation=500",
    )
    setup = Setup(experiment, experiment.task.measure(experiment.data))
    slab, _ = setup.slabs.at(0)

    def call():
        return setup.run_block(slab, tf.constant(0), tf.constant(setup.block))["loss"].numpy()

    call()
    times = []
    for _ in range(steps // setup.block):
        at = time.perf_counter()
        call()
        times.append((time.perf_counter() - at) / setup.block)
    state = loop.State()
    signals = type("Signals", (), {"received": 0})()
    loop.train_until(setup.block * 2, setup, state, Silent(), signals, None)
    at = time.perf_counter()
    loop.train_until(setup.block * 2 + steps, setup, state, Silent(), signals, None)
    return {
        "loop_us": 1e6 * (time.perf_counter() - at) / steps,
        "program_us": 1e6 * statistics.median(times),
    }


def sums_here() -> None:
    """One of two processes that sum arrays with TensorFlow; prints seconds by size."""
    import numpy as np
    import tensorflow as tf

    from tfbig.core.workers import place
    from tfbig.engine.strategy import Workers

    workers, found = Workers(place()), {}
    for size in SIZES:
        value = tf.constant(np.ones(size, np.float32))
        total = tf.function(
            lambda x: workers.run(lambda: workers.total([x])[0][:1]), autograph=False
        )
        found[size] = _median_seconds(lambda total=total, value=value: total(value).numpy())
    if workers.is_chief:
        print(json.dumps(found))


def sums_torch(rank: int, port: int) -> None:
    """The same with PyTorch's gloo."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = {}
    for size in SIZES:
        found[size] = _median_seconds(lambda size=size: dist.all_reduce(torch.ones(size)))
    if rank == 0:
        print(json.dumps(found))


def _median_seconds(function, rounds: int = 10) -> float:
    function()  # connects, traces
    times = []
    for _ in range(rounds):
        at = time.perf_counter()
        function()
        times.append(time.perf_counter() - at)
    return statistics.median(times)


def pair(commands: list[list[str]], environments: list[dict]) -> dict:
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for command, own in zip(commands, environments, strict=True)
    ]
    return json.loads(processes[0].communicate()[0].splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", help="an interpreter that has torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--sums", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sums == "here":
        return sums_here()
    if given.sums:
        return sums_torch(*map(int, given.sums.split(",")))
    from tfbig.engine.processes import environments, free_ports

    with tempfile.TemporaryDirectory() as folder:
        for name, settings in TRAININGS.items():
            rounds = [
                [
                    speed(
                        settings,
                        workers,
                        given.steps * (20 if name == "mnist_mlp" else 1),
                        Path(folder),
                    )
                    for workers in (1, 2)
                ]
                for _ in range(given.rounds)
            ]
            ratios = sorted(two / one for one, two in rounds)
            print(
                f"{name:<26} one process {statistics.median(one for one, _ in rounds):,.0f}"
                f" examples/s, two workers {statistics.median(two for _, two in rounds):,.0f};"
                f" ratio {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]",
                flush=True,
            )
    found = overhead()
    print(
        f"loop {found['loop_us']:.0f} us a step, program alone {found['program_us']:.0f} us:"
        f" overhead {found['loop_us'] - found['program_us']:.0f} us",
        flush=True,
    )
    ours = pair([[sys.executable, __file__, "--sums", "here"]] * 2, environments(2))
    peer = {}
    if given.torch_python:
        port = free_ports(1)[0]
        peer = pair(
            [[given.torch_python, __file__, "--sums", f"{rank},{port}"] for rank in (0, 1)],
            [{}, {}],
        )
    for size, seconds in ours.items():
        other = (
            f", gloo {peer[size] * 1e3:.2f} ms, ratio {peer[size] / seconds:.2f}" if peer else ""
        )
        print(
            f"sum of {int(size):,} values: {seconds * 1e3:.2f} ms,"
            f" {4 * int(size) / seconds / 1e9:.2f} GB/s{other}"
        )
    return None


if __name__ == "__main__":
    main()
