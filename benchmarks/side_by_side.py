"""Peers side by side: each a process that stays loaded and idle while another is timed.

A round times each once.
"""

from __future__ import annotations

import json
import statistics
import subprocess


class Peer:
    """A process that answers each JSON line it is given with another."""

    def __init__(self, command: list[str]):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **question) -> dict:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(self.process.args)}: ended without an answer")
        return json.loads(answer)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error) -> None:
        self.process.stdin.close()
        self.process.wait()


def interleave(peers: dict[str, Peer], steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds that each peer takes for its steps, round by round.

    One round before them compiles and warms up.
    """
    for peer in peers.values():
        peer.ask(steps=steps)
    timed = [
        {name: peer.ask(steps=steps)["seconds"] for name, peer in peers.items()}
        for _ in range(rounds)
    ]
    return {name: [one[name] for one in timed] for name in peers}


def show(seconds: dict[str, list[float]], examples: int) -> None:
    """Each peer's speed and its time over that of "ours": the median over rounds and the range."""
    for name, own in seconds.items():
        ratios = sorted(a / b for a, b in zip(own, seconds["ours"], strict=True))
        rate = examples / statistics.median(own)
        print(
            f"{name:<14} {rate:>10,.0f} examples/s   {statistics.median(ratios):6.2f} x ours' time"
            f" [{ratios[0]:.2f}, {ratios[-1]:.2f}]",
            flush=True,
        )
