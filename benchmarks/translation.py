"""A translator beside PyTorch: training, and writing with a cache. Interleaved rounds, as ratios.

    python benchmarks/translation.py train --torch-python PATH     # eager and torch.compile
    python benchmarks/translation.py write --torch-python PATH     # greedy, and ours without cache

The Transformer of tatoeba_transformer, on its sentences. PyTorch (translation_torch.py) and tfbig
run in processes of their own; each stays loaded and idle while another is timed. Ratios are the
peer's seconds over ours, so more than 1 means that ours is faster.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import Peer, interleave, show

HERE = Path(__file__).parent
SENTENCES = 256
TOGETHER = 64


def setup_of(settings: list[str]):
    import tfbig
    from tfbig.engine.readable import Readable
    from tfbig.engine.setup import Setup, training_facts

    experiment = tfbig.recipe("tatoeba_transformer", *settings)
    return Setup(experiment, training_facts(experiment, Readable(experiment.data)))


def trainer(setup):
    """The loop's own path; a step is one batch."""
    import tensorflow as tf

    step = 0

    def act(steps: int) -> None:
        nonlocal step
        for _ in range(steps):
            slab, first = setup.slabs.at(step)
            setup.run_block(slab, tf.constant(first), tf.constant(1))["loss"].numpy()
            step += 1

    return act


def sources_of(setup) -> list:
    import numpy as np

    return setup.data.examples("validation", np.arange(SENTENCES))["source"]


def writer(setup, cached: bool):
    """Greedy translations of `steps` batches of sentences."""
    import numpy as np

    from tfbig.tasks.translation import Search

    task, model = setup.task, setup.model
    sources = sources_of(setup)
    rows = np.zeros((TOGETHER, max(map(len, sources))), np.int32)
    counts = np.array([len(source) for source in sources[:TOGETHER]], np.int32)
    for row, source in zip(rows, sources, strict=False):
        row[: len(source)] = source
    transducer = task.transducer(model)

    def act(steps: int) -> None:
        for _ in range(steps):
            if cached:
                task.translate(model, sources[:TOGETHER], Search())
            else:
                transducer.write_uncached(model, rows, counts)

    return act


def worker(what: str, settings: list[str]) -> None:
    """Answers each line with the seconds that so many steps took."""
    setup = setup_of(settings)
    act = trainer(setup) if what == "train" else writer(setup, cached=what == "write")
    for line in sys.stdin:
        started = time.perf_counter()
        act(json.loads(line)["steps"])
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


def write_batches(path: Path, count: int) -> dict:
    """The first batches of training and the sizes of the model, for the peer."""
    import numpy as np

    setup = setup_of([])
    arrays = {}
    for step in range(count):
        slab, first = setup.slabs.at(step)
        raw = {name: value[first] for name, value in slab.items()}
        for name, value in setup.task.preprocess(raw, True).items():
            arrays[f"{name}_{step}"] = value.numpy()
    np.savez(path, **arrays)
    model, spec = setup.experiment.model, setup.task.spec
    sizes = ("width", "encoder_depth", "decoder_depth", "heads", "hidden", "dropout")
    return {
        **{name: getattr(model, name) for name in sizes},
        "values": spec["source"].values,
        "scored": spec["target"].values,
        "most": spec["target"].most,
        "end": int(setup.task.end),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "write", "uncached"))
    parser.add_argument("--torch-python", required=True, help="an interpreter that has torch")
    parser.add_argument("--steps", type=int, default=32, help="batches timed in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", help="key=value, changes of the recipe")
    options = parser.parse_args()
    if options.worker:
        worker(options.what, options.settings)
        return
    with tempfile.TemporaryDirectory() as folder:
        batches = Path(folder) / "batches.npz"
        sizes = json.dumps(write_batches(batches, options.steps))
        own = [sys.executable, __file__]
        tail = ["--worker", "--torch-python", "none", *options.settings]
        peer = [options.torch_python, str(HERE / "translation_torch.py"), str(batches), sizes]
        commands = {"ours": [*own, options.what, *tail]}
        if options.what == "train":
            commands |= {"torch": [*peer, "train"], "torch.compile": [*peer, "compiled"]}
        else:
            commands |= {"uncached": [*own, "uncached", *tail], "torch": [*peer, "write"]}
        peers = {name: Peer(command) for name, command in commands.items()}
        seconds = interleave(peers, options.steps, options.rounds)
        show(seconds, options.steps * TOGETHER if options.what == "write" else options.steps)


if __name__ == "__main__":
    main()
