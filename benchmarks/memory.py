"""Peak memory of training beside PyTorch.

Plain, in micro-batches (accumulation) and with recomputed activations.

    python benchmarks/memory.py --torch-python PATH        # or vit, gpt, mlp, cnn, lstm; --steps 6

Every way runs in a process of its own. Reported are its largest resident set and what that is above
the set just before training (libraries and data loaded, weights made), which is what a training
adds; and the median seconds of a step. Models and batches are larger than the recipes', so that
activations are most of it.
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

BATCH, CONTEXT, TOKENS = {"vit": 128, "gpt": 8, "mlp": 4096, "cnn": 256, "lstm": 512}, 256, 65
SHAPE = {"size": TOKENS, "context": CONTEXT, "width": 192, "depth": 6, "heads": 6, "bias": False}
EXPERIMENTS = {
    "mlp": ["mnist_mlp", "model.units=512,512,512,512"],
    "cnn": [
        "mnist_cnn",
        "task.crop_padding=0",
        "model.filters=32,64",
        "model.normalization=none",
        "model.dropout=0",
    ],
    "lstm": ["mnist_lstm", "optim.clip_norm=none"],
    "vit": [
        "mnist_vit",
        "task.crop_padding=0",
        "optim.clip_norm=none",
        "model.depth=12",
        "model.patch=4",
    ],
    "gpt": [
        "sotu_gpt",
        "model.positions=learned",
        "model.normalization=layer",
        "model.activation=gelu",
        "model.qk_norm=false",
        "model.width=192",
        "model.depth=6",
        "model.heads=6",
        f"data.context={CONTEXT}",
        "data.tokenizer=characters",
        "data.min_count=50",
    ],
}
WAYS = {
    "plain": [],
    "accumulate 4": ["train.accumulate=4"],
    "remat": ["train.remat=true"],
    "both": ["train.accumulate=4", "train.remat=true"],
}


def resident_mb() -> float:
    """What the process holds now; Linux says so in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def measure(step, steps: int) -> None:
    """Makes steps and prints what they took, as JSON."""
    before, times = resident_mb(), []
    for _ in range(steps):
        at = time.perf_counter()
        step()
        times.append(time.perf_counter() - at)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(
        json.dumps(
            {"peak_mb": peak, "added_mb": peak - before, "step_s": statistics.median(times[1:])}
        )
    )


def ours(model: str, way: str, steps: int) -> None:
    import tensorflow as tf

    import tfbig
    from tfbig.engine.setup import Setup

    words = [
        *EXPERIMENTS[model],
        f"train.batch_size={BATCH[model]}",
        "device.block=1",
        "train.length=1000",
        *WAYS[way],
    ]
    experiment = tfbig.recipe(*words)
    setup = Setup(experiment, experiment.task.measure(experiment.data))
    slab, _ = setup.slabs.at(0)
    setup.optimizer  # noqa: B018 - its variables are no part of what a step adds
    measure(lambda: setup.run_block(slab, tf.constant(0), tf.constant(1))["loss"].numpy(), steps)


def torch_peer(model: str, way: str, steps: int) -> None:
    """The same models in eager PyTorch; recomputation by its own `checkpoint`, once per block."""
    import torch
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    torch.set_num_threads(2)
    network, blocks, inputs, targets = _torch_model(model, torch, nn)
    optimizer, parts = (
        torch.optim.AdamW(network.parameters(), 1e-3),
        (4 if way in ("accumulate 4", "both") else 1),
    )
    if way in ("remat", "both"):
        for block in blocks:
            usual = block.forward
            block.forward = lambda *given, usual=usual, **options: checkpoint(
                usual, *given, use_reentrant=False, **options
            )

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for x, y in zip(inputs.chunk(parts), targets.chunk(parts), strict=True):
            (nn.functional.cross_entropy(network(x).flatten(0, -2), y.flatten()) / parts).backward()
        optimizer.step()

    measure(step, steps)


def _torch_model(model: str, torch, nn):
    """(network, its blocks, inputs, targets)."""
    size = BATCH[model]
    if model == "gpt":
        from gpt_torch import GPT

        network = GPT(**SHAPE)
        tokens = torch.randint(TOKENS, (size, CONTEXT + 1))
        return network, network.blocks, tokens[:, :-1], tokens[:, 1:]
    image, label = torch.rand(size, 1, 28, 28), torch.randint(10, (size,))
    if model == "vit":

        class Patches(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.position = (
                    nn.Linear(16, 64),
                    nn.Parameter(torch.randn(49, 64) * 0.02),
                )

                def layer():
                    return nn.TransformerEncoderLayer(
                        64, 4, 128, 0.1, nn.functional.gelu, batch_first=True, norm_first=True
                    )

                self.blocks, self.norm, self.head = (
                    nn.ModuleList(layer() for _ in range(12)),
                    nn.LayerNorm(64),
                    nn.Linear(64, 10),
                )

            def forward(self, x):
                x = (
                    self.embed(x.reshape(-1, 7, 4, 7, 4).transpose(2, 3).reshape(-1, 49, 16))
                    + self.position
                )
                for block in self.blocks:
                    x = block(x)
                return self.head(self.norm(x).mean(1))

        network = Patches()
        return network, network.blocks, image, label
    if model == "lstm":
        from image_peers import rows_lstm

        network = rows_lstm(nn)
        return network, [network.rnn], image, label

    def conv(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.MaxPool2d(2), nn.ReLU())

    def dense(a, b):
        return nn.Sequential(nn.Linear(a, b), nn.ReLU())

    body = (
        [conv(1, 32), conv(32, 64), nn.Flatten(), dense(3136, 128)]
        if model == "cnn"
        else [nn.Flatten(), dense(784, 512), *(dense(512, 512) for _ in range(3))]
    )
    network = nn.Sequential(*body, nn.Linear(128 if model == "cnn" else 512, 10))
    return network, [layer for layer in body if isinstance(layer, nn.Sequential)], image, label


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help=f"of {', '.join(BATCH)}; by default all of them")
    parser.add_argument("--torch-python", help="an interpreter that has torch")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        who, model, way = given.run
        return (ours if who == "ours" else torch_peer)(model, way, given.steps)
    for model in given.models or BATCH:
        for who in ("ours", *(["torch"] if given.torch_python else [])):
            for way in WAYS:
                python = sys.executable if who == "ours" else given.torch_python
                done = subprocess.run(
                    [python, __file__, "--steps", str(given.steps), "--run", who, model, way],
                    capture_output=True,
                    text=True,
                )
                if done.returncode:
                    print(
                        f"{model:<5} {who:<6} {way:<13} {done.stderr.strip().splitlines()[-1]}",
                        flush=True,
                    )
                    continue
                found = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"{model:<5} {who:<6} {way:<13} peak {found['peak_mb']:6,.0f} MB,"
                    f" {found['added_mb']:6,.0f} added; {found['step_s']:.3f} s a step",
                    flush=True,
                )
    return None


if __name__ == "__main__":
    main()
