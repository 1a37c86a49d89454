"""Whole training by PPO beside plain PyTorch: environment steps per second, as ratios.

    python benchmarks/games.py cartpole_ppo --torch-python PATH
    python benchmarks/games.py bricks_ppo --torch-python PATH   # --rollouts 20 --rounds 5

The recipe as it is, and the same algorithm with the same networks, sizes and settings in PyTorch
(games_torch.py), written as one file implementations usually are: Gymnasium's SyncVectorEnv for
CartPole, our own vectorised board for bricks. Each runs in a process of its own, which stays loaded
and idle while the other is timed. Ratios are the peer's seconds over ours.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from side_by_side import Peer, interleave, show

HERE = Path(__file__).parent


def worker(recipe: str) -> None:
    """Answers each line with the seconds that so many rollouts, and training on them, took."""
    import tensorflow as tf

    import tfbig
    from tfbig.engine.setup import Setup

    setup = Setup(tfbig.recipe(recipe), {})
    step = 0
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(json.loads(line)["steps"]):
            slab, first = setup.slabs.at(step)
            count = tf.constant(setup.block - first)
            setup.run_block(slab, tf.constant(first), count)["loss"].numpy()
            step += setup.block
            setup.slabs.trained(step)
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=("cartpole_ppo", "bricks_ppo"))
    parser.add_argument("--torch-python", help="an interpreter that has torch and gymnasium")
    parser.add_argument("--rollouts", type=int, default=20, help="timed in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.recipe)
        return
    import tfbig

    task = tfbig.recipe(options.recipe).task
    peer = [options.torch_python, str(HERE / "games_torch.py"), options.recipe]
    commands = {"ours": [sys.executable, __file__, options.recipe, "--worker"], "PyTorch": peer}
    peers = {name: Peer(command) for name, command in commands.items()}
    seconds = interleave(peers, options.rollouts, options.rounds)
    print("environment steps, whole training:")
    show(seconds, options.rollouts * task.environments * task.horizon)
    for each in peers.values():
        each.__exit__()


if __name__ == "__main__":
    main()
