"""The textbook MLP on MNIST beside PyTorch and `keras.Model.fit`.

Time of an epoch as ratios, and test accuracy over seeds.

    python benchmarks/mnist_mlp.py --torch-python PATH    # --rounds 5 --seeds 3 --epochs 10

784-128-10, ReLU, SGD with rate 0.01 and momentum 0.9, batch 64, float32, 55,000 pictures. The
peers: PyTorch with a DataLoader of PIL pictures, PyTorch over tensors in memory, `fit` on a
shuffled tf.data pipeline, and `fit` with steps_per_execution=100 and jit_compile=True. Ratios are
peer's seconds for an epoch over ours in the same round, so more than 1 means that ours is faster;
median over rounds, with the range. Accuracy is that of the weights after the last epoch.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack

import image_peers
import side_by_side

EPOCH = 859  # whole batches of 64 in 55,000
NAMES = ["ours", "torch_loader", "torch_memory", "fit", "fit_blocks"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--torch-python",
        help="an interpreter that has torch and pillow; without it PyTorch is left out",
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each peer")
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        help="trainings of each peer whose accuracy is taken; 0: none",
    )
    parser.add_argument("--epochs", type=int, default=10, help="length of those trainings")
    given = parser.parse_args()
    names = image_peers.available(NAMES, given.torch_python)
    with image_peers.examples() as path:

        def start(name, seed):
            return side_by_side.Peer(
                image_peers.command(name, "mlp", seed, path, given.torch_python)
            )

        with ExitStack() as stack:
            peers = {name: stack.enter_context(start(name, 0)) for name in names}
            side_by_side.show(
                side_by_side.interleave(peers, EPOCH, given.rounds), EPOCH * image_peers.BATCH
            )
        for name in names if given.seeds else []:
            found = []
            for seed in range(given.seeds):
                with start(name, seed) as peer:
                    peer.ask(steps=EPOCH * given.epochs)
                    found.append(peer.ask(test=True)["accuracy"])
            each = ", ".join(f"{accuracy:.2%}" for accuracy in found)
            print(
                f"{name:<14} test accuracy after {given.epochs} epochs {each}; mean"
                f" {statistics.mean(found):.2%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
