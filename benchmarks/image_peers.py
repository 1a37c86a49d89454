"""What the image benchmarks time.

The same models, data and batches by tfbig, by `keras.Model.fit` and by PyTorch.

    python benchmarks/image_peers.py PEER MODEL SEED EXAMPLES.npz

is a process that answers {"steps": n} with the seconds they took and {"test": true} with the
accuracy on the test split. All peers train in float32 on the same 55,000 pictures by SGD with rate
0.01 and momentum 0.9, batch 64, two threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

BATCH = 64
EXPERIMENTS = {
    "mlp": ["mnist_mlp"],
    "cnn": [
        "mnist_cnn",
        "task.crop_padding=0",
        "model.filters=32,64",
        "model.normalization=none",
        "model.dropout=0",
    ],
    "lstm": ["mnist_lstm", "optim.clip_norm=none"],
    "vit": ["mnist_vit", "task.crop_padding=0", "optim.clip_norm=none"],
}
PLAIN_SGD = [
    "optim.optimizer=sgd",
    "optim.learning_rate=0.01",
    "optim.momentum=0.9",
    "optim.schedule=constant",
    "optim.warmup=0",
    "optim.weight_decay=0",
]


@contextmanager
def examples():
    """A file with MNIST's train and test split, for interpreters without tfbig."""
    import numpy as np

    import tfbig

    data = tfbig.recipe("mnist_mlp").data
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.npz"
        np.savez(
            path,
            **{
                f"{split}_{name}": value
                for split in ("train", "test")
                for name, value in data.arrays(split).items()
            },
        )
        yield path


def command(peer: str, model: str, seed: int, path: Path, torch_python: str | None) -> list[str]:
    python = torch_python if peer.startswith("torch") else sys.executable
    return [python, __file__, peer, model, str(seed), str(path)]


def available(peers: list[str], torch_python: str | None) -> list[str]:
    """Those of the peers that can be run here."""
    found = (
        torch_python
        and subprocess.run(
            [torch_python, "-c", "import torch, PIL"], capture_output=True
        ).returncode
        == 0
    )
    if torch_python and not found:
        raise SystemExit(
            "--torch-python: expected an interpreter that has torch and pillow. Received:"
            f" {torch_python}."
        )
    return [peer for peer in peers if found or not peer.startswith("torch")]


def ours(model: str, seed: int):
    """The loop's own path: slabs gathered by index, blocks of steps, losses read back."""
    import tensorflow as tf

    import tfbig
    from tfbig.engine.setup import Setup

    experiment = tfbig.recipe(
        *EXPERIMENTS[model], f"train.batch_size={BATCH}", f"seed={seed}", *PLAIN_SGD
    )
    setup, step = Setup(experiment, experiment.task.measure(experiment.data)), 0

    def run(steps: int) -> None:
        nonlocal step
        stop = step + steps
        while step < stop:
            slab, first = setup.slabs.at(step)
            count = min(setup.block - first, stop - step)
            setup.run_block(slab, tf.constant(first), tf.constant(count))["loss"].numpy()
            step += count

    return run, lambda: setup.evaluate("test").metrics["accuracy"]["value"]


def fit(model: str, seed: int, **options):
    """`keras.Model.fit` on a shuffled tf.data pipeline, as the documentation writes it."""
    import keras
    import tensorflow as tf

    import tfbig

    experiment = tfbig.recipe(*EXPERIMENTS[model], f"seed={seed}")
    task, network = tfbig.build(experiment)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, metrics=["accuracy"], **options)

    def prepare(image, label):
        return (task.preprocess({"image": image}, training=False)["image"], label)

    def pipeline(split: str, size: int):
        arrays = experiment.data.arrays(split)
        rows = tf.data.Dataset.from_tensor_slices((arrays["image"], arrays["label"]))
        return (
            (rows.shuffle(10_000) if split == "train" else rows)
            .batch(size)
            .map(prepare)
            .prefetch(2)
        )

    data = pipeline("train", BATCH).repeat()

    def run(steps):
        return network.fit(data, steps_per_epoch=steps, epochs=1, verbose=0)

    return run, lambda: network.evaluate(pipeline("test", 1000), verbose=0)[1]


def fit_blocks(model: str, seed: int):
    """The same, with all that `fit` has for speed: many steps a call, compiled by XLA."""
    return fit(model, seed, steps_per_execution=100, jit_compile=True)


def rows_lstm(nn):
    """A picture's rows as a sequence, in PyTorch: what it answers is read off the last one."""

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

        def forward(self, x):
            return self.head(self.rnn(x[:, 0])[0][:, -1])

    return Rows()


def torch_network(model: str):
    import torch
    from torch import nn

    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.position = nn.Linear(49, 64), nn.Parameter(torch.randn(16, 64) * 0.02)
            layer = nn.TransformerEncoderLayer(
                64, 4, 128, 0.0, nn.functional.gelu, batch_first=True, norm_first=True
            )
            self.body, self.norm, self.head = (
                nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
                nn.LayerNorm(64),
                nn.Linear(64, 10),
            )

        def forward(self, x):
            x = x.reshape(-1, 4, 7, 4, 7).transpose(2, 3).reshape(-1, 16, 49)
            return self.head(self.norm(self.body(self.embed(x) + self.position)).mean(1))

    def conv(a, b):
        return nn.Conv2d(a, b, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()

    return {
        "mlp": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)
        ),
        "cnn": lambda: nn.Sequential(
            *conv(1, 32),
            *conv(32, 64),
            nn.Flatten(),
            nn.Linear(3136, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        ),
        "lstm": lambda: rows_lstm(nn),
        "vit": Patches,
    }[model]()


def torch_peer(kind: str, model: str, seed: int, path: str):
    """The same model in PyTorch.

    An eager loop over tensors in memory, compiled, or with the usual DataLoader of PIL pictures.
    """
    import numpy as np
    import torch

    torch.set_num_threads(2)
    torch.manual_seed(seed)
    files = np.load(path)
    images = {
        split: torch.from_numpy(files[f"{split}_image"][..., 0]) for split in ("train", "test")
    }
    labels = {
        split: torch.from_numpy(files[f"{split}_label"].astype("int64"))
        for split in ("train", "test")
    }
    network = torch_network(model)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    forward = torch.compile(network) if kind == "torch_compile" else network

    def scaled(pixels):
        return ((pixels.float() / 255 - 0.1307) / 0.3081)[:, None]

    def pictures():
        from PIL import Image

        class Pictures(torch.utils.data.Dataset):
            def __len__(self):
                return len(images["train"])

            def __getitem__(self, i):
                pixels = (
                    np.asarray(Image.fromarray(images["train"][i].numpy()), np.float32)[None] / 255
                )
                return torch.from_numpy((pixels - 0.1307) / 0.3081), labels["train"][i]

        while True:
            yield from torch.utils.data.DataLoader(Pictures(), BATCH, shuffle=True, drop_last=True)

    def tensors():
        while True:
            order = torch.randperm(len(images["train"]))
            for first in range(0, len(order) - BATCH + 1, BATCH):
                rows = order[first : first + BATCH]
                yield scaled(images["train"][rows]), labels["train"][rows]

    batches = pictures() if kind == "torch_loader" else tensors()

    def run(steps: int) -> None:
        for _ in range(steps):
            x, y = next(batches)
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(forward(x), y)
            loss.backward()
            optimizer.step()
        loss.item()

    def test() -> float:
        with torch.no_grad():
            parts = [network(scaled(part)).argmax(1) for part in images["test"].split(1000)]
        return float((torch.cat(parts) == labels["test"]).float().mean())

    return run, test


def main(peer: str, model: str, seed: str, path: str) -> None:
    made = (
        torch_peer(peer, model, int(seed), path)
        if peer.startswith("torch")
        else {"ours": ours, "fit": fit, "fit_blocks": fit_blocks}[peer](model, int(seed))
    )
    run, test = made
    for line in sys.stdin:
        question, started = json.loads(line), time.perf_counter()
        if "steps" in question:
            run(question["steps"])
        answer = (
            {"accuracy": float(test())}
            if "test" in question
            else {"seconds": time.perf_counter() - started}
        )
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
