"""Training batches from JPEGs: pictures a second beside PyTorch's DataLoader and bare decoding.

    python benchmarks/jpeg_pipeline.py --torch-python PATH            # --pictures 2000 --rounds 5
    python benchmarks/jpeg_pipeline.py --memory                       # 1,000 pictures and 100,000

All of them read one folder of made-up photographs, 500 x 375 pixels of 1/f noise with correlated
colours, some 95 kB each, as ImageNet's are; and make batches of 64 random parts (8 % of the area at
least) of 224 x 224 pixels. `ours` are the batches of `tfbig`'s own loop (uint8, to be mirrored and
standardised on the device), from the folder; `torch` is a DataLoader of torchvision's ImageFolder
with decoding by Pillow, RandomResizedCrop, RandomHorizontalFlip and ToTensor, as many workers as
cores; `bare` reads and decodes whole pictures by tf.data and makes no batches of them. A peer is
timed while the others wait.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

HEIGHT, WIDTH, SIDE, BATCH, LEAST_AREA = 375, 500, 224, 64, 0.08
BUFFERED = 10  # batches that a peer may have made while it waited, taken before it is timed
DRAWN = 200  # different photographs; further files are copies of them
MEMORY_PICTURES = (1_000, 100_000)


def photograph(seed: int) -> bytes:
    """A JPEG whose spectrum is that of natural scenes (Field 1987)."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1

    def noise():
        return random.normal(size=frequency.shape) + 1j * random.normal(size=frequency.shape)

    common, channels = noise(), []
    for _ in range(3):
        plane = np.fft.irfft2((common + 0.3 * noise()) / frequency**1.1, s=(HEIGHT, WIDTH))
        channels.append(120 + 50 * (plane - plane.mean()) / plane.std())
    pixels = np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def draw(folder: Path, pictures: int) -> None:
    """FOLDER/train/CLASS/N.jpg and a few test pictures, of two classes."""
    contents = [photograph(seed) for seed in range(min(pictures, DRAWN))]
    for part, count in (("train", pictures), ("validation", 2), ("test", 2)):
        for name in ("a", "b"):
            (folder / part / name).mkdir(parents=True)
        for i in range(count):
            path = folder / part / "ab"[i % 2] / f"{i:06d}.jpg"
            if i < len(contents) or part != "train":
                path.write_bytes(contents[i % len(contents)])
            else:  # the same file again: the disk holds it once, readers read it as another
                first = i % len(contents)
                os.link(folder / part / "ab"[first % 2] / f"{first:06d}.jpg", path)


def ours(folder: Path):
    """Batches without end, as the training loop takes them: from its slabs."""
    import tfbig
    from tfbig.engine.readable import Readable
    from tfbig.engine.setup import Setup

    experiment = tfbig.recipe(
        "own_pictures",
        f"data.path={folder}",
        f"data.side={SIDE}",
        f"data.random_area={LEAST_AREA}",
        f"train.batch_size={BATCH}",
        "device.block=1",  # a batch a slab, so that few are ready beforehand
        "task.crop_padding=0",
    )
    facts = {"mean": [120.0] * 3, "std": [50.0] * 3, "labels": ["a", "b"]}
    slabs = Setup(experiment, facts, data=Readable(experiment.data)).slabs
    step = 0
    while True:
        slab, first = slabs.at(step)
        yield slab["image"][first].shape[0]
        step += 1


def bare(folder: Path):
    """Whole pictures, read and decoded, nothing else."""
    import tensorflow as tf

    def decode(path):
        return tf.shape(tf.io.decode_jpeg(tf.io.read_file(path), channels=3)[::64, ::64])

    paths = sorted(str(path) for path in folder.glob("train/*/*.jpg"))
    data = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths), seed=0).repeat()
    cores = len(os.sched_getaffinity(0))
    for batch in data.map(decode, num_parallel_calls=cores).batch(BATCH).prefetch(2):
        yield len(batch)


def torch(folder: Path):
    """Batches of torchvision's usual pipeline."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE, scale=(LEAST_AREA, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
    )
    data = datasets.ImageFolder(folder / "train", change)
    workers = len(os.sched_getaffinity(0))
    loader = DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True
    )
    while True:
        for image, _ in loader:
            yield len(image)


def serve(peer: str, folder: Path) -> None:
    """Answers {"steps": n} by the seconds that n batches took."""
    batches = {"ours": ours, "bare": bare, "torch": torch}[peer](folder)
    for line in sys.stdin:
        for _ in range(BUFFERED):
            next(batches)
        started = time.perf_counter()
        for _ in range(json.loads(line)["steps"]):
            next(batches)
        answer = {"seconds": time.perf_counter() - started}
        answer["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(answer), flush=True)


def compare(parsed) -> None:
    from side_by_side import Peer, interleave, show

    pythons = {"ours": sys.executable, "bare": sys.executable}
    if parsed.torch_python:
        pythons["torch"] = parsed.torch_python
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name), parsed.pictures)
        peers = {
            peer: Peer([python, __file__, "--peer", peer, "--folder", name])
            for peer, python in pythons.items()
        }
        seconds = interleave(peers, parsed.steps, parsed.rounds)
        show(seconds, parsed.steps * BATCH)


def memory(parsed) -> None:
    """Peak memory after as many batches, of a small and a large folder."""
    from side_by_side import Peer

    for pictures in MEMORY_PICTURES:
        with tempfile.TemporaryDirectory() as name:
            draw(Path(name), pictures)
            command = [sys.executable, __file__, "--peer", "ours", "--folder", name]
            with Peer(command) as peer:
                answer = peer.ask(steps=parsed.steps)
            print(f"{pictures:>8,} pictures: {answer['memory_mb']:,.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch-python", help="an interpreter with torch and torchvision")
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--steps", type=int, default=20, help="batches in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="measure memory instead of speed")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.peer:
        serve(parsed.peer, parsed.folder)
    elif parsed.memory:
        memory(parsed)
    else:
        compare(parsed)


if __name__ == "__main__":
    main()
