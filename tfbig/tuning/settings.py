"""The settings of a search, tune.*: how to search, how long, and how many trainings that takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tfbig.core import config, duration
from tfbig.core.component import Component, knob
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.registry import nearest
from tfbig.tuning.space import Space, read_space

ALGORITHMS = ("random", "bayesian", "hyperband", "grid")
COSTS = ("latency", "parameters", "size")
DEFAULT_TRIALS = 20


@dataclass(frozen=True, kw_only=True)
class Tune(Component):
    """How to search."""

    algorithm: str = knob("random", "Keras Tuner's oracle", choices=ALGORITHMS)
    trials: int | None = knob(
        None,
        f"most trials; none: {DEFAULT_TRIALS}, or without limit where tune.time or the algorithm"
        " sets one",
        low=1,
    )
    time: str | None = knob(
        None, 'time for the search, such as "30m": no trial begins after it, but for the finalists'
    )
    seed: int = knob(0, "of the proposals", low=0, high=2**31 - 2)
    objective: tuple[str, ...] = knob(
        (),
        "none: the task's primary metric; several: with latency, parameters or size, smaller being"
        " better",
    )
    baseline: bool = knob(True, "train the recipe's own settings as the first trial")
    finalists: int = knob(2, "best trials trained again with other seeds; 0: none", low=0)
    seeds: int = knob(
        3, "how many other seeds; the winner has the best mean over them", low=1, high=100
    )
    workers: int = knob(1, "processes that train at the same time", low=1, high=1024)
    factor: int = knob(3, "hyperband: one trial in so many goes on", low=2)
    iterations: int = knob(1, "hyperband: how often the whole schedule is run", low=1)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.time is not None:
            try:
                duration.to_seconds(self.time)
            except ValueError as error:
                yield "time", str(error)

    @property
    def most_trials(self) -> int | None:
        """How many trials are proposed at most.

        None where time or the algorithm alone ends the search.
        """
        if self.trials is None and self.time is None and self.algorithm in ("random", "bayesian"):
            return DEFAULT_TRIALS
        return self.trials


@dataclass(frozen=True, kw_only=True)
class Settings(Component):
    """The settings of a search, as the command line names them: tune.trials=20."""

    tune: Tune = Tune()


# What --resume may change: nothing that decides the proposals
CHANGEABLE = ("trials", "time", "finalists", "seeds", "workers")


def read_settings(
    base: Experiment, settings: list[str], complete: bool = True
) -> tuple[Tune, Space]:
    """The tune.* settings and the search space, every problem of both reported at once.

    `complete`: as for `config.override`.
    """
    problems = []
    tune = Tune()
    space = None
    own = [text for text in settings if text.startswith("tune.")]
    try:
        tune = config.override(Settings(), own).tune
        problems += _objective_problems(base, tune)
    except UserError as error:
        problems.append(str(error))
    try:
        space = read_space(base, [text for text in settings if text not in own], complete)
        problems += _length_problems(tune, space)
    except UserError as error:
        problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return tune, space


def count_trainings(
    tune: Tune, space: Space, scheduled: int | None = None
) -> dict[str, int | None]:
    """How many trainings a search takes at most.

    `scheduled` are the trials of hyperband's schedule.

    Returns:
        "trials", "baseline", those that train the finalists and the baseline "again" with other
        seeds, and "most", their sum; trials and their sum are None where only time ends the search.
    """
    listed = all(parameter.kind == "in" for parameter in space.parameters)
    if listed and tune.algorithm != "hyperband":  # which trains a configuration several times
        scheduled = math.prod(len(parameter.choices) for parameter in space.parameters)
    limits = [limit for limit in (tune.most_trials, scheduled) if limit is not None]
    trials = min(limits, default=None)
    finalists = tune.finalists if trials is None else min(tune.finalists, trials)
    compared = finalists + tune.baseline if finalists else 0
    counts = {"baseline": int(tune.baseline), "again": compared * tune.seeds}
    most = None if trials is None else trials + sum(counts.values())
    return {"trials": trials, **counts, "most": most}


def _objective_problems(base: Experiment, tune: Tune) -> list[str]:
    primary = base.task.primary[0]
    known = (primary, *COSTS)
    wrong = [name for name in tune.objective if name not in known]
    problems = [
        f"tune.objective: expected {primary}, alone or with {', '.join(COSTS)}. Received:"
        f" {name!r}.{nearest(name, known)}"
        for name in wrong
    ]
    if tune.objective and primary not in tune.objective and not wrong:
        problems.append(
            f"tune.objective: expected {primary} among them. Received: {','.join(tune.objective)}."
        )
    return problems


def _length_problems(tune: Tune, space: Space) -> list[str]:
    lengths = [
        p.name for p in space.parameters if p.key in ("train.length", "train.evaluate_every")
    ]
    return [
        f"{name}: cannot be searched with tune.algorithm=hyperband, which decides how long a trial"
        " trains."
        for name in lengths
        if tune.algorithm == "hyperband"
    ]
