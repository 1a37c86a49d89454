"""Training speed of a CNN, an LSTM and a ViT beside PyTorch, eager and compiled.

Interleaved rounds, as ratios.

    python benchmarks/image_models.py lstm --torch-python PATH    # or cnn, vit; --rounds 5

PyTorch runs in an interpreter of its own (`--torch-python`, one that has torch and pillow), so that
neither library's threads disturb the other's. Ratios are peer's seconds over ours, so more than 1
means that ours is faster; median over rounds, with the range. benchmarks/mnist_mlp.py does the same
for the textbook MLP, with accuracies.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

import image_peers
import side_by_side

STEPS = {"cnn": 100, "lstm": 150, "vit": 100}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=STEPS)
    parser.add_argument("--torch-python", required=True, help="an interpreter that has torch")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    names = image_peers.available(["ours", "torch_memory", "torch_compile"], given.torch_python)
    with image_peers.examples() as path, ExitStack() as stack:
        peers = {
            name: stack.enter_context(
                side_by_side.Peer(
                    image_peers.command(name, given.model, 0, path, given.torch_python)
                )
            )
            for name in names
        }
        side_by_side.show(
            side_by_side.interleave(peers, STEPS[given.model], given.rounds),
            STEPS[given.model] * image_peers.BATCH,
        )


if __name__ == "__main__":
    main()
