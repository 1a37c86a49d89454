"""What the tests of searches share.

Small searches, training that is only pretended, a search's story.
"""

import contextlib
from pathlib import Path

import numpy as np

import tfbig
from tfbig.tuning import trials
from tfbig.tuning.chief import Chief
from tfbig.tuning.search import Search

MLP = tfbig.recipe("mnist_mlp")
SPACE = [
    "optim.learning_rate=log:1e-4..1e-1",
    "model.units=in:16,32,64",
    "model.dropout=lin:0..0.5",
]
TINY = ["train.length=20", "train.evaluate_every=10"]


class Silent:
    restored = trained = evaluated = note = lambda self, *_: None


def silent(plan):
    return Silent()


def pretend(search, planned, observer):
    """Stands in for training: a smooth function of the settings."""
    made = planned.experiment
    value = (
        0.9
        - 0.02 * abs(np.log10(made.optim.learning_rate) + 2)
        - 0.05 * made.model.dropout
        + made.model.units[0] / 1000
        + made.seed / 1e4
    )
    told = planned.evaluations or 9
    metrics = {
        "accuracy": float(value + told / 1000),
        "parameters": made.model.units[0] * 795,
        "size": 0.1,
        "latency": 1.0 + made.model.units[0] / 100,
    }
    run = str(planned.run.relative_to(search.path))
    return {
        "status": "completed",
        "reason": None,
        "metrics": metrics,
        "evaluations": told,
        "stopped": "paused",
        "run": run,
        "settings": planned.settings,
    }


def begin(folder, *settings, space=SPACE):
    return Search.create(folder, "mnist_mlp", MLP, [*space, *settings])


def go(search, ended=lambda name, outcome: None, observe=silent):
    chief = Chief(search, 9)
    trials.work(search, chief, "worker0", observe, ended)
    return chief


def story(search):
    """What was proposed and what it came to, in order, without times."""
    kept = [line for line in search.journal() if line["event"] in ("start", "end")]
    return [
        (line["event"], line["trial"], line.get("values"), line.get("outcome", {}).get("metrics"))
        for line in kept
    ]


def plan_as_mlp(planned):
    return trials.Plan(
        name=planned.name,
        run=planned.run,
        settings=planned.settings,
        experiment=MLP,
        evaluations=None,
    )


def failing(*errors, then=pretend):
    """Training that raises these errors in turn, None being success."""
    left = list(errors)

    def completed(search, planned, observer):
        error = left.pop(0) if left else None
        if error is not None:
            raise error
        return then(search, planned, observer)

    return completed


def children(pid):
    """The processes that any thread of a process started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found
