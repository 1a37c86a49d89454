"""A recogniser beside PyTorch: training, and how fast the served model answers.

    python benchmarks/speech.py train --torch-python PATH     # eager and torch.compile
    python benchmarks/speech.py answer RUN                    # real-time factor, one core, one row

Training is that of connected_digits_crnn without random changes, from samples to the step: both
make log-mel frames of the same batches, normalise them and take CTC's gradient, PyTorch by its own
`stft`, `nn.LSTM` and `ctc_loss`. PyTorch (speech_torch.py) and tfbig run in processes of their own;
each stays loaded and idle while another is timed. Ratios are the peer's seconds over ours, so more
than 1 means that ours is faster.
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
PLAIN = tuple(f"task.{name}=0" for name in ("speed", "gain_db", "noise", "masks"))
LENGTHS_S = (1, 3, 10, 60)


def setup_of():
    import tfbig
    from tfbig.engine.readable import Readable
    from tfbig.engine.setup import Setup, training_facts

    experiment = tfbig.recipe("connected_digits_crnn", *PLAIN, "data.train_rows=800")
    return Setup(experiment, training_facts(experiment, Readable(experiment.data)))


def worker() -> None:
    """Answers each line with the seconds that so many steps of the loop's own path took."""
    import tensorflow as tf

    setup = setup_of()
    for line in sys.stdin:
        started = time.perf_counter()
        for step in range(json.loads(line)["steps"]):
            slab, first = setup.slabs.at(step)
            setup.run_block(slab, tf.constant(first), tf.constant(1))["loss"].numpy()
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


def write_batches(path: Path, count: int) -> tuple[dict, float]:
    """The first batches of training, the sizes of the model, and the seconds of sound in all."""
    import numpy as np

    setup = setup_of()
    arrays, seconds = {}, 0.0
    for step in range(count):
        slab, first = setup.slabs.at(step)
        raw = {name: np.asarray(value[first]) for name, value in slab.items()}
        arrays |= {f"{name}_{step}": value for name, value in raw.items()}
        seconds += float(raw["samples_count"].sum()) / setup.data.rate_hz
    np.savez(path, **arrays)
    model, task, front = setup.experiment.model, setup.task, setup.task.front
    sizes = {name: getattr(model, name) for name in ("channels", "blocks", "kernel", "dropout")}
    sizes |= {
        name: getattr(front, name) for name in ("rate_hz", "bands", "window", "hop", "points")
    }
    return {**sizes, "units": model.units[0], "values": task.tokenizer.size + 1}, seconds


def training(torch_python: str, steps: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        batches = Path(folder) / "batches.npz"
        sizes, seconds = write_batches(batches, steps)
        torch = [torch_python, str(HERE / "speech_torch.py"), str(batches), json.dumps(sizes)]
        with (
            Peer([sys.executable, __file__, "worker"]) as ours,
            Peer([*torch, "eager"]) as eager,
            Peer([*torch, "compiled"]) as compiled,
        ):
            peers = {"ours": ours, "torch eager": eager, "torch.compile": compiled}
            show(interleave(peers, steps, rounds), round(seconds))
    print("examples: seconds of sound")


def answering(run: str) -> None:
    """Seconds of work for a second of sound: the whole served program, from WAV to words."""
    import os

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import tfbig
    from tfbig.deploy.programs import Programs
    from tfbig.prep import recordings

    trained = tfbig.load(run)
    program = Programs(trained.task, trained.model).raw
    rate = trained.task.data.rate_hz
    sound = np.concatenate([trained.task.data.samples("test", i) for i in range(20)])
    for length in LENGTHS_S:
        for wav_rate in (rate, 48_000):
            samples = np.resize(sound, length * rate)
            content = tf.constant([recordings.wav(np.resize(samples, length * wav_rate), wav_rate)])
            program(wav_bytes=content)
            times = []
            for _ in range(5):
                started = time.perf_counter()
                program(wav_bytes=content)["text"].numpy()
                times.append(time.perf_counter() - started)
            middle = sorted(times)[2]
            print(
                f"{length:3d} s at {wav_rate:,} Hz: {1e3 * middle:8.1f} ms, real-time factor"
                f" {middle / length:.4f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "answer", "worker"))
    parser.add_argument("run", nargs="?", help="answer: a run directory")
    parser.add_argument("--torch-python", help="train: an interpreter that has torch")
    parser.add_argument("--steps", type=int, default=24, help="batches timed in a round")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if asked.what == "worker":
        worker()
    elif asked.what == "answer":
        answering(asked.run)
    else:
        training(asked.torch_python, asked.steps, asked.rounds)


if __name__ == "__main__":
    main()
