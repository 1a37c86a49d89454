"""Training speed beside PyTorch and `keras.Model.fit`: the same models, data and batch, interleaved rounds, as ratios.

    python benchmarks/image_models.py mlp --torch-python PATH    # or cnn, lstm, vit; --rounds 5

PyTorch runs in an interpreter of its own (`--torch-python`, one that has torch and pillow), so that neither
library's threads disturb the other's. Every peer stays loaded and idle while another is timed; a round times each once.
Ratios are peer's seconds over ours, so more than 1 means that ours is faster; median over rounds, with the range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

BATCH = 64
STEPS = {"mlp": 859, "cnn": 100, "lstm": 150, "vit": 100}
PEERS = {"mlp": ["torch_loader", "torch_memory", "fit"], "cnn": ["torch_memory", "torch_compile"]}
EXPERIMENTS = {
    "mlp": ["mnist_mlp"],
    "cnn": ["mnist_cnn", "task.crop_padding=0", "model.filters=32,64", "model.normalization=none", "model.dropout=0"],
    "lstm": ["mnist_lstm", "optim.clip_norm=none"],
    "vit": ["mnist_vit", "task.crop_padding=0", "optim.clip_norm=none"],
}
PLAIN_SGD = ["optim.optimizer=sgd", "optim.learning_rate=0.01", "optim.momentum=0.9", "optim.schedule=constant", "optim.warmup=0", "optim.weight_decay=0"]


def ours(model: str):
    """The loop's own path: slabs gathered by index, blocks of steps, losses read back."""
    import tensorflow as tf

    import tfbig
    from tfbig.engine.setup import Setup

    experiment = tfbig.recipe(*EXPERIMENTS[model], f"train.batch_size={BATCH}", *PLAIN_SGD)
    setup, step = Setup(experiment, experiment.task.measure(experiment.data)), 0

    def run(steps: int) -> float:
        nonlocal step
        last, stop = 0.0, step + steps
        while step < stop:
            slab, first = setup.slabs.at(step)
            count = min(setup.block - first, stop - step)
            last = setup.run_block(slab, tf.constant(first), tf.constant(count))["loss"].numpy()[count - 1]
            step += count
        return float(last)

    return run


def fit(model: str):
    """`keras.Model.fit` on a shuffled tf.data pipeline, as the documentation writes it."""
    import keras
    import tensorflow as tf

    import tfbig

    experiment = tfbig.recipe(*EXPERIMENTS[model])
    task, network = tfbig.build(experiment)
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    arrays = experiment.data.arrays("train")
    prepare = lambda image, label: (task.preprocess({"image": image}, training=False)["image"], label)  # noqa: E731
    data = tf.data.Dataset.from_tensor_slices((arrays["image"], arrays["label"])).shuffle(10_000).batch(BATCH).map(prepare).repeat().prefetch(2)

    def run(steps: int) -> float:
        return network.fit(data, steps_per_epoch=steps, epochs=1, verbose=0).history["loss"][-1]

    return run


def torch_peer(kind: str, model: str):
    """The same model in PyTorch: an eager loop over tensors in memory, compiled, or with the usual DataLoader of PIL pictures."""
    import numpy as np
    import torch
    from torch import nn

    torch.set_num_threads(2)
    torch.manual_seed(0)
    files = np.load(Path(__file__).parent / ".mnist.npz")
    image, label = torch.from_numpy(files["image"][..., 0]), torch.from_numpy(files["label"].astype("int64"))

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

        def forward(self, x):
            return self.head(self.rnn(x[:, 0])[0][:, -1])

    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.position = nn.Linear(49, 64), nn.Parameter(torch.randn(16, 64) * 0.02)
            layer = nn.TransformerEncoderLayer(64, 4, 128, 0.0, nn.functional.gelu, batch_first=True, norm_first=True)
            self.body, self.norm, self.head = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.LayerNorm(64), nn.Linear(64, 10)

        def forward(self, x):
            x = x.reshape(-1, 4, 7, 4, 7).transpose(2, 3).reshape(-1, 16, 49)
            return self.head(self.norm(self.body(self.embed(x) + self.position)).mean(1))

    def conv(a, b):
        return nn.Conv2d(a, b, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()

    make = {
        "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)),
        "cnn": lambda: nn.Sequential(*conv(1, 32), *conv(32, 64), nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)),
        "lstm": Rows,
        "vit": Patches,
    }
    network = make[model]()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    forward = torch.compile(network) if kind == "torch_compile" else network

    def pictures():
        from PIL import Image

        class Pictures(torch.utils.data.Dataset):
            def __len__(self):
                return len(image)

            def __getitem__(self, i):
                pixels = np.asarray(Image.fromarray(image[i].numpy()), np.float32)[None] / 255
                return torch.from_numpy((pixels - 0.1307) / 0.3081), label[i]

        while True:
            yield from torch.utils.data.DataLoader(Pictures(), BATCH, shuffle=True, drop_last=True)

    def tensors():
        while True:
            order = torch.randperm(len(image))
            for first in range(0, len(image) - BATCH + 1, BATCH):
                rows = order[first : first + BATCH]
                yield ((image[rows].float() / 255 - 0.1307) / 0.3081)[:, None], label[rows]

    batches = pictures() if kind == "torch_loader" else tensors()

    def run(steps: int) -> float:
        for _ in range(steps):
            x, y = next(batches)
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(forward(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    return run


def serve(peer: str, model: str) -> None:
    """A peer's process: makes the steps it is told to and answers with the seconds they took."""
    run = torch_peer(peer, model) if peer.startswith("torch") else {"ours": ours, "fit": fit}[peer](model)
    for line in sys.stdin:
        started = time.perf_counter()
        loss = run(int(line))
        print(json.dumps({"seconds": time.perf_counter() - started, "loss": float(loss)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=STEPS)
    parser.add_argument("--torch-python", help="an interpreter that has torch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve, given.model)
    import numpy as np

    import tfbig

    np.savez(Path(__file__).parent / ".mnist.npz", **tfbig.recipe("mnist_mlp").data.arrays("train"))
    peers = ["ours", *PEERS.get(given.model, ["torch_memory", "torch_compile"])]
    peers = [peer for peer in peers if given.torch_python or not peer.startswith("torch")]
    processes = {}
    for peer in peers:
        python = given.torch_python if peer.startswith("torch") else sys.executable
        command = [python, __file__, given.model, "--serve", peer]
        processes[peer] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask(peer: str, steps: int) -> dict:
        processes[peer].stdin.write(f"{steps}\n")
        processes[peer].stdin.flush()
        return json.loads(processes[peer].stdout.readline())

    for peer in peers:
        ask(peer, STEPS[given.model])  # compiles, warms up
    rounds = [{peer: ask(peer, STEPS[given.model])["seconds"] for peer in peers} for _ in range(given.rounds)]
    for process in processes.values():
        process.stdin.close()
    for peer in peers:
        seconds = [one[peer] for one in rounds]
        ratios = sorted(one[peer] / one["ours"] for one in rounds)
        rate = STEPS[given.model] * BATCH / statistics.median(seconds)
        print(f"{peer:<14} {rate:>10,.0f} examples/s   {statistics.median(ratios):6.2f} x ours' time [{ratios[0]:.2f}, {ratios[-1]:.2f}]")
    return None


if __name__ == "__main__":
    main()
