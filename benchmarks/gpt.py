"""GPT beside PyTorch: training and generation speed, time to a loss, memory.

Interleaved rounds, as ratios.

    # shakespeare_char_gpt, eager and torch.compile
    python benchmarks/gpt.py train --torch-python PATH
    # Batch 1 and 16, with a cache on both sides
    python benchmarks/gpt.py generate --torch-python PATH
    # Seconds until the validation loss is at most 1.88
    python benchmarks/gpt.py target --torch-python PATH
    # GPT-2's 124 million parameters, one window of 1024 tokens
    python benchmarks/gpt.py step124m --torch-python PATH

PyTorch (benchmarks/gpt_torch.py) and tfbig run in processes of their own; each stays loaded and
idle while another is timed. Ratios are peer's seconds over ours, so more than 1 means that ours is
faster; median over rounds, with the range.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

CHAR = {"context": 64, "width": 128, "depth": 4, "heads": 4, "bias": False}
TARGET = 1.88


def setup_of(setting: dict):
    import tfbig
    from tfbig.engine.setup import Setup

    experiment = tfbig.recipe(*setting["recipe"], f"seed={setting['seed']}")
    return Setup(experiment, setting.get("facts") or experiment.task.measure(experiment.data))


def ours_train(setting: dict):
    """The loop's own path: windows gathered by position, blocks of steps, losses read back."""
    import tensorflow as tf

    setup, step = setup_of(setting), 0

    def act():
        nonlocal step
        stop = step + setting["steps"]
        while step < stop:
            slab, first = setup.slabs.at(step)
            count = min(setup.block - first, stop - step)
            setup.run_block(slab, tf.constant(first), tf.constant(count))["loss"].numpy()
            step += count

    return act


def ours_generate(setting: dict):
    from tfbig.decoding.generation import Generator

    setup = setup_of(setting)
    generator = Generator(setup.experiment.model, setup.model, jit=setup.jit, temperature=0.8)
    return lambda: generator.generate([[0]] * setting["batch"], setting["steps"])


def ours_target(setting: dict) -> dict:
    """Seconds of the whole training, compiling included.

    The evaluation at its end, and nothing else, is left out.
    """
    import tensorflow as tf

    started = time.perf_counter()
    setup = setup_of(setting)
    step, total = 0, setup.lengths.total
    while step < total:
        slab, first = setup.slabs.at(step)
        count = min(setup.block - first, total - step)
        setup.run_block(slab, tf.constant(first), tf.constant(count))["loss"].numpy()
        step += count
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "loss": setup.evaluate("validation").metrics["loss"]["value"],
        "steps": total,
    }


def worker() -> None:
    setting = json.loads(sys.stdin.readline())
    started = time.perf_counter()
    if setting["what"] == "target":
        print(json.dumps(ours_target(setting)), flush=True)
        return
    act = (ours_generate if setting["what"] == "generate" else ours_train)(setting)
    act()
    print(json.dumps({"start": time.perf_counter() - started}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        act()
        seconds = time.perf_counter() - started
        print(
            json.dumps(
                {
                    "seconds": seconds,
                    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                }
            ),
            flush=True,
        )


class Peer:
    """A process that is told its setting and then times one round for each line."""

    def __init__(self, command: list[str], setting: dict):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.told = self.ask(json.dumps(setting))
        self.seconds, self.peak_mb = [], 0.0

    def ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.process.args}: ended without an answer")
        return json.loads(answer)

    def round(self) -> None:
        found = self.ask("round")
        self.seconds.append(found["seconds"])
        self.peak_mb = found["peak_mb"]


def interleaved(
    name: str,
    ours: dict,
    peers: dict[str, dict],
    torch_python: str,
    rounds: int,
    unit: str,
    units: int,
) -> None:
    here, there = (
        [sys.executable, __file__, "--worker"],
        [
            torch_python,
            str(Path(__file__).with_name("gpt_torch.py")),
        ],
    )
    started = {
        "tfbig": Peer(here, ours),
        **{peer: Peer(there, setting) for peer, setting in peers.items()},
    }
    for _ in range(rounds):
        for peer in started.values():
            peer.round()
    mine = started["tfbig"].seconds
    print(f"{name}, {rounds} interleaved rounds")
    for peer, run in started.items():
        ratios = [other / own for other, own in zip(run.seconds, mine, strict=True)]
        rate = units / statistics.median(run.seconds)
        against = (
            ""
            if peer == "tfbig"
            else (
                f", {statistics.median(ratios):.2f}x [{min(ratios):.2f}, {max(ratios):.2f}] of"
                " tfbig's time"
            )
        )
        print(
            f"  {peer:<14} {rate:>10,.0f} {unit}, first call {run.told['start']:.1f} s, peak"
            f" {run.peak_mb:,.0f} MB{against}",
            flush=True,
        )
        run.process.stdin.close()
        run.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "generate", "target", "step124m"))
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=100, help="optimiser steps, or tokens of each row, in a round"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    import tfbig

    data = tfbig.recipe("shakespeare_char_gpt").data
    train, validation = (data.tokens(split).tolist() for split in ("train", "validation"))
    size = data.read_tokenizer().size
    common = {"seed": given.seed, "steps": given.steps, "recipe": ["shakespeare_char_gpt"]}
    peer = {
        **common,
        "shape": {**CHAR, "size": size},
        "train": train,
        "rate": 1e-3,
        "batch": 12,
        "compile": False,
    }
    if given.what == "train":
        peers = {
            "torch": {**peer, "what": "train"},
            "torch.compile": {**peer, "what": "train", "compile": True},
        }
        interleaved(
            "training",
            {**common, "what": "train"},
            peers,
            given.torch_python,
            given.rounds,
            "tokens/s",
            given.steps * 12 * 64,
        )
    elif given.what == "generate":
        steps = min(given.steps, 63)  # what fits in the context behind one token
        for batch in (1, 16):
            setting = {"what": "generate", "batch": batch, "steps": steps}
            peers = {"torch": {**peer, **setting}}
            interleaved(
                f"generation, batch {batch}",
                {**common, **setting},
                peers,
                given.torch_python,
                given.rounds,
                "tokens/s",
                steps * batch,
            )
    elif given.what == "target":
        here = Peer(
            [sys.executable, __file__, "--worker"],
            {**common, "what": "target", "recipe": ["shakespeare_char_gpt_fast"]},
        ).told
        print(
            f"tfbig: loss {here['loss']:.4f} after {here['steps']} steps, {here['seconds']:.1f} s",
            flush=True,
        )
        setting = {
            **peer,
            "what": "target",
            "validation": validation,
            "target": TARGET,
            "steps": 2000,
        }
        for name, compiled in (("torch", False), ("torch.compile", True)):
            found = Peer(
                [given.torch_python, str(Path(__file__).with_name("gpt_torch.py"))],
                {**setting, "compile": compiled},
            ).told
            print(
                f"{name}: loss {found['loss']:.4f}, {found['seconds']:.1f} s,"
                f" {found['seconds'] / here['seconds']:.2f}x of tfbig's time; {found['curve']}",
                flush=True,
            )
    else:
        steps = min(given.steps, 1)
        recipe = [
            "gpt2_124m",
            "train.batch_size=1",
            "train.accumulate=1",
            "device.precision=float32",
            "data=tiny_shakespeare",
            "data.context=1024",
            "data.tokenizer=characters",
        ]
        # A vocabulary of GPT-2's size; what it means does not matter
        alphabet = "".join(chr(0x20000 + i) for i in range(50257))
        facts = {
            "tokenizer": {
                "kind": "characters",
                "alphabet": alphabet,
                "unknown": False,
                "separator": False,
            }
        }
        shape = {
            "size": 50257,
            "context": 1024,
            "width": 768,
            "depth": 12,
            "heads": 12,
            "bias": True,
        }
        large = {**peer, "what": "train", "shape": shape, "batch": 1, "train": None, "steps": steps}
        ours = {**common, "what": "train", "steps": steps, "recipe": recipe, "facts": facts}
        interleaved(
            "GPT-2, 124 million parameters, 1 x 1024 tokens",
            ours,
            {"torch": large},
            given.torch_python,
            given.rounds,
            "tokens/s",
            steps * 1024,
        )


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["--worker"] else main()
