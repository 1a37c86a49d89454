"""Time to the same best score, beside plain Keras Tuner.

Hyperband on MNIST with the same space, proposals, data and metric.

    python benchmarks/tuning.py --seeds 1 2 3 --epochs 9

Keras Tuner trains with `model.fit` on arrays, as its documentation writes it, and reloads the
weights of a promoted trial. Both sides get the same seed, so the oracle's first proposals are the
same. Each search runs in a process of its own, the two sides in turn; its clock starts once
libraries are loaded and data is in memory. The target is the lower of the two best validation
accuracies; a ratio is the time Keras Tuner took to reach it over ours, so more than 1 means that
ours is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

UNITS, RATE, DROPOUT, BATCH = (64, 128, 256), (1e-3, 1e-1), (0.0, 0.5), 64


def ours(folder: Path, seed: int, epochs: int) -> list[tuple[float, float]]:
    """tfbig's search: (seconds since its start, validation accuracy) of each trial."""
    import tfbig
    from tfbig.core.lazy import tf

    recipe, version = tfbig.recipe("mnist_mlp"), tf.__version__
    assert recipe.data.arrays("train") and version
    space = [
        f"model.units=in:{','.join(map(str, UNITS))}",
        f"model.dropout=lin:{DROPOUT[0]}..{DROPOUT[1]}",
        f"optim.learning_rate=log:{RATE[0]}..{RATE[1]}",
    ]
    settings = [
        f"train.length={epochs}ep",
        f"train.batch_size={BATCH}",
        "device.jit=false",
        "tune.algorithm=hyperband",
        f"tune.seed={seed - 1}",
        "tune.baseline=false",
        "tune.finalists=0",
    ]
    started = time.time()
    search = tfbig.tune("mnist_mlp", *space, *settings, run=folder / "search")
    return [
        (line["time"] - started, line["outcome"]["metrics"]["accuracy"])
        for line in search.journal()
        if line["event"] == "end" and line["outcome"]["status"] == "completed"
    ]


def keras_tuner(folder: Path, seed: int, epochs: int) -> list[tuple[float, float]]:
    """Plain Keras Tuner's search, likewise."""
    import keras
    import keras_tuner as kt

    import tfbig

    recipe = tfbig.recipe("mnist_mlp")
    facts = recipe.task.measure(recipe.data)
    arrays = {split: recipe.data.arrays(split) for split in ("train", "validation")}
    x, y = {}, {}
    for split, raw in arrays.items():
        x[split] = ((raw["image"].astype("float32") - facts["mean"][0]) / facts["std"][0]).astype(
            "float32"
        )
        y[split] = raw["label"]

    def build(hp):
        units, dropout = hp.Choice("model.units", UNITS), hp.Float("model.dropout", *DROPOUT)
        rate = hp.Float("optim.learning_rate", *RATE, sampling="log")
        layers = [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(units, "relu"),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(10),
        ]
        model = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss, metrics=["accuracy"])
        return model

    found: list[tuple[float, float]] = []
    started = time.time()

    class Timed(kt.Hyperband):
        def on_trial_end(self, trial):
            super().on_trial_end(trial)
            found.append((time.time() - started, self.oracle.get_trial(trial.trial_id).score))

    tuner = Timed(
        build,
        "val_accuracy",
        max_epochs=epochs,
        factor=3,
        seed=seed,
        directory=folder,
        project_name="search",
    )
    tuner.search(
        x["train"],
        y["train"],
        batch_size=BATCH,
        validation_data=(x["validation"], y["validation"]),
        verbose=0,
    )
    return [(seconds, score) for seconds, score in found if score is not None]


def reached(trials: list[tuple[float, float]], target: float) -> float:
    """Seconds until the first trial with this score."""
    return min(seconds for seconds, score in trials if score >= target)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--side", choices=("ours", "keras_tuner"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        with tempfile.TemporaryDirectory() as folder:
            side = {"ours": ours, "keras_tuner": keras_tuner}[given.side]
            print(json.dumps(side(Path(folder), given.seeds[0], given.epochs)))
        return
    ratios, whole = [], []
    for number, seed in enumerate(given.seeds):
        found = {}
        for side in ("ours", "keras_tuner") if number % 2 == 0 else ("keras_tuner", "ours"):
            command = [
                sys.executable,
                __file__,
                "--side",
                side,
                "--seeds",
                str(seed),
                "--epochs",
                str(given.epochs),
            ]
            answer = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
            ).stdout
            found[side] = [tuple(pair) for pair in json.loads(answer.strip().splitlines()[-1])]
        target = min(max(score for _, score in trials) for trials in found.values())
        times = {side: reached(trials, target) for side, trials in found.items()}
        ends = {side: max(seconds for seconds, _ in trials) for side, trials in found.items()}
        ratios.append(times["keras_tuner"] / times["ours"])
        whole.append(ends["keras_tuner"] / ends["ours"])
        for side, trials in found.items():
            print(
                f"seed {seed} {side:<12} {len(trials)} trials in {ends[side]:6.1f} s, best"
                f" {max(s for _, s in trials):.2%}, {target:.2%} after {times[side]:6.1f} s",
                flush=True,
            )
        print(
            f"seed {seed} ratio of the times to {target:.2%}: {ratios[-1]:.2f}, of the whole"
            f" searches: {whole[-1]:.2f}",
            flush=True,
        )
    print(
        f"median ratio of the times to the same best score: {statistics.median(ratios):.2f}"
        f" [{min(ratios):.2f}, {max(ratios):.2f}]; of the whole searches:"
        f" {statistics.median(whole):.2f}"
    )


if __name__ == "__main__":
    main()
