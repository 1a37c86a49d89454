"""The chief of a search (Keras Tuner's word).

It hands out trials over a Keras Tuner oracle, and writes every decision down before it counts.

Resuming replays the journal on a fresh oracle. Keras Tuner's own files could not do it: they leave
out the random state of Bayesian optimisation and the queue of grid search, and are written in
place. They are still kept, under DIR/keras_tuner.

Besides the oracle's trials ("0007") there are two kinds of its own: "baseline", the recipe's own
settings, and "0007_seed_3", a finalist trained again with another seed. A worker does not need to
know the difference.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator

from tfbig.core import duration
from tfbig.core.errors import RunFailure, UserError
from tfbig.tuning import oracles, trials
from tfbig.tuning.ranking import ranked
from tfbig.tuning.search import Search
from tfbig.tuning.settings import count_trainings

LEASE_SECONDS = 60.0  # silence after which a worker has lost its trial
BLIND_SECONDS = 10.0  # a chief that did not look for so long was itself stopped, and heard nobody
MOST_LOSSES = 2  # a trial that cost so many workers has failed
EQUAL_FAILURES = 3
BASELINE = "baseline"


class Chief:
    """The oracle that workers call, here or over Keras Tuner's protocol.

    By `create_trial`, `update_trial`, `end_trial`, ...

    Attributes:
        values: trial -> the values the oracle proposed, in the order of their start.
        outcomes: trial -> its outcome, in the order of their end.
        ongoing: worker -> the trial it trains.
        losses: trial -> how many workers were lost while they trained it.
        error: what ended the search: a full disk, most likely. Nothing is handed out after it.
    """

    def __init__(self, search: Search, evaluations: int, alone: bool = True):
        """Replays the journal.

        Args:
            search: the search directory.
            evaluations: evaluations in a whole training: hyperband's unit of length.
            alone: whether no worker of an earlier chief can still be at work; else it keeps its
                trial while it is heard.
        """
        self.search = search
        self.tune = search.tune
        self.lock = threading.RLock()
        self.primary, self.better = search.base.task.primary
        self.oracle = oracles.build(search, evaluations)
        self.values: dict[str, dict] = {}
        self.outcomes: dict[str, dict] = {}
        self.ongoing: dict[str, str] = {}
        self.heard: dict[str, float] = {}
        self.losses: dict[str, int] = {}
        self.began: dict[str, float] = {}
        self.looked = time.monotonic()
        self.served: set[str] = set()
        self.told_to_stop = False
        self.error: Exception | None = None
        self.asked: dict[str, float] = {}
        self.spent = 0.0
        self.opened = time.monotonic()
        self.failure: str | None = None
        search.mend_journal()
        self._replay(alone)
        search.record("open")

    # What workers call

    def create_trial(self, tuner_id: str):
        """The trial a worker is to train next.

        Status IDLE: ask again later, STOPPED: there is nothing more to do.
        """
        with self._deciding():
            # It asks for a trial and has one: it was started again
            self.lost(tuner_id, "ended without a word")
            self.served.add(tuner_id)
            self.asked[tuner_id] = time.monotonic()
            trial = self._handed_on() or self._next()
            if trial in ("IDLE", "STOPPED"):
                if trial == "STOPPED":
                    if not self.told_to_stop and not self.failure:
                        self.search.record("stopped", limits=self._limits)
                    self.told_to_stop = True
                    self.served.discard(tuner_id)
                return oracles.trial(None, trial)
            self.ongoing[tuner_id] = trial
            self.heard[trial] = time.monotonic()
            self.began.setdefault(trial, time.monotonic())
            return oracles.trial(trial, "RUNNING")

    def update_trial(self, trial_id: str, metrics: dict, step: int = 0):
        """Unused: a trial's outcome is read from its file, which holds more than the protocol."""
        return self.get_trial(trial_id)

    def end_trial(self, trial) -> None:
        """Takes note of a trial's outcome; a second report of the same trial changes nothing."""
        with self._deciding():
            name = trial.trial_id
            for owner in [owner for owner, theirs in self.ongoing.items() if theirs == name]:
                del self.ongoing[owner]
                self.asked[owner] = time.monotonic()
            if name in self.outcomes or name not in self.values:
                return
            outcome = self.search.outcome(name)
            self.search.record("end", trial=name, outcome=outcome)
            self._ended(name, outcome)
            self._stop_if_equal_failures()

    def get_trial(self, trial_id: str):
        """A trial; workers ask for theirs every few seconds, which shows that they are alive."""
        with self.lock:
            self.heard[trial_id] = time.monotonic()
            return oracles.trial(trial_id, "RUNNING")

    def get_best_trials(self, num_trials: int = 1) -> list:
        return self.oracle.get_best_trials(num_trials)

    def get_space(self):
        return self.oracle.get_space()

    def update_space(self, hyperparameters) -> None:
        """The space is whole from the start."""

    def silent(self) -> list[str]:
        """The workers that have not been heard from for too long, with and without a trial."""
        with self.lock:
            now = time.monotonic()
            looked = self.looked
            self.looked = now
            if now - looked > BLIND_SECONDS:
                self.heard = dict.fromkeys(self.heard, now)
                self.asked = dict.fromkeys(self.asked, now)
            last = {
                **self.asked,
                **{worker: self.heard[trial] for worker, trial in self.ongoing.items()},
            }
            return [worker for worker, when in last.items() if now - when > LEASE_SECONDS]

    def lost(self, worker: str, how: str, why: str = "") -> str | None:
        """Gives the trial of a worker that is gone to the next one that asks; returns it.

        A trial that cost several workers has failed.

        Args:
            worker: its name.
            how: what its process did, such as "was ended by signal 9".
            why: the probable cause and what to do, if there is more to say.

        Returns:
            The trial, None if it had none.
        """
        with self.lock:
            trial = self.ongoing.pop(worker, None)
            self.asked.pop(worker, None)
            self.served.discard(worker)
            # It had ended the trial, and could no longer say so
            if trial is None or self.search.outcome(trial) is not None:
                return None
            self.losses[trial] = self.losses.get(trial, 0) + 1
            if self.losses[trial] == MOST_LOSSES:
                outcome = trials.failed(
                    self.search,
                    trials.plan(self.search, trial, self.values[trial]),
                    f"its process {how}, {MOST_LOSSES} times{why}",
                )
                self.search.write_outcome(
                    trial, {"seconds": round(time.monotonic() - self.began[trial], 2), **outcome}
                )
                self.end_trial(oracles.trial(trial, "FAILED"))
            return trial

    def is_over(self) -> bool:
        """Whether every worker knows that nothing is left to do, or was silent for too long."""
        with self.lock:
            last = [
                *self.asked.values(),
                *(self.heard.get(trial, 0.0) for trial in self.ongoing.values()),
            ]
            silent = time.monotonic() - max(last, default=0.0) > LEASE_SECONDS
            return self.told_to_stop and (not self.served or silent)

    # What it decides

    @contextlib.contextmanager
    def _deciding(self) -> Iterator[None]:
        """A context for one decision at a time.

        After an error the oracle may be ahead of the journal, so only a resumed search can go on.
        """
        with self.lock:
            if self.error is not None:
                raise self.error
            try:
                yield
            except Exception as error:
                self.error = error
                raise

    def _handed_on(self) -> str | None:
        """A trial whose worker is gone."""
        owned = set(self.ongoing.values())
        return next(
            (trial for trial in self.values if trial not in self.outcomes and trial not in owned),
            None,
        )

    def _next(self) -> str:
        if self.failure:
            return "STOPPED"
        if self.tune.baseline and BASELINE not in self.values:
            return self._start(BASELINE, {})
        if not self._spent_all():
            proposed = self._propose()
            if proposed.status == "RUNNING":
                return self._start(proposed.trial_id, dict(proposed.hyperparameters.values))
            if proposed.status == "IDLE":
                return "IDLE"
        if any(trial not in self.outcomes for trial in self.values if "_seed_" not in trial):
            return "IDLE"  # the finalists are known once all have ended
        for trial in self.repeats():
            if trial not in self.values:
                return self._start(trial, self.values[trial.partition("_seed_")[0]])
        return "IDLE" if self.ongoing else "STOPPED"

    def _propose(self):
        """The oracle's next trial.

        The oracle knows each under a name of its own, whichever worker trains it.
        """
        if len(self.search.objectives) > 1:
            oracles.weigh(self.oracle, self.search.objectives)
        before = self.oracle._seed_state
        proposed = self.oracle.create_trial(f"trial {len(self.values)}")
        # A replay does not repeat draws that came to nothing, so they must leave no trace
        if proposed.status != "RUNNING":
            self.oracle._seed_state = before
        return proposed

    def _start(self, trial: str, values: dict) -> str:
        self.search.record("start", trial=trial, values=values)
        self.values[trial] = values
        return trial

    def _spent_all(self) -> bool:
        proposed = sum(1 for trial in self.values if trial.isdigit())
        limit = self.tune.most_trials
        return (limit is not None and proposed >= limit) or self.seconds_left() <= 0

    def trainings(self) -> dict[str, int | None]:
        """How many trainings the whole search takes at most; see `count_trainings`."""
        return count_trainings(self.tune, self.search.space, oracles.scheduled(self.oracle))

    def seconds_left(self) -> float:
        """Until tune.time is over; time in which no chief lived does not count."""
        if self.tune.time is None:
            return math.inf
        return duration.to_seconds(self.tune.time) - self.spent - (time.monotonic() - self.opened)

    def finalists(self) -> list[str]:
        """The best trials, which are trained again with other seeds; there may be none."""
        return self.ranked()[: self.tune.finalists]

    def ranked(self) -> list[str]:
        """The completed trials, best first; see `ranking.ranked`."""
        return ranked(self.search, self.values, self.outcomes)

    def repeats(self) -> list[str]:
        """The trials that repeat the finalists, and the baseline to compare, with other seeds."""
        if not self.tune.finalists:
            return []
        again = [
            trial
            for trial in (BASELINE, *self.finalists())
            if trial == BASELINE and BASELINE in self.outcomes or trial.isdigit()
        ]
        return [
            f"{trial}_seed_{number}" for trial in again for number in range(1, self.tune.seeds + 1)
        ]

    # What it remembers

    @property
    def _limits(self) -> list:
        """The settings that decide when nothing is left to do; they may grow on a resume."""
        return [self.tune.trials, self.tune.time, self.tune.finalists, self.tune.seeds]

    def _replay(self, alone: bool) -> None:
        with oracles.replaying(self.oracle) as remembered:
            began = last = 0.0
            for line in self.search.journal():
                if line["event"] == "open":
                    self.spent += max(0.0, last - began)
                    began = line["time"]
                elif line["event"] == "start":
                    self._replay_start(line, remembered)
                elif line["event"] == "end":
                    self._ended(line["trial"], line["outcome"])
                # Workers that were told to stop do not come back to a chief that died after it
                if line["event"] != "open":
                    is_last = line["event"] == "stopped"
                    self.told_to_stop = is_last and line["limits"] == self._limits
                last = line["time"]
            if began:  # a search that was killed trained on after its last line
                logs = self.search.trials.glob("*/metrics.jsonl")
                last = max([last, *(log.stat().st_mtime for log in logs)])
                # Not below 0: the clock may have been set back between two processes
                self.spent += max(0.0, last - began)
        if not alone:
            self.heard = dict.fromkeys(self.values, time.monotonic())
            self.began = dict.fromkeys(self.values, time.monotonic())
            self.ongoing = {
                f"unknown {trial}": trial for trial in self.values if trial not in self.outcomes
            }

    def _replay_start(self, line: dict, remembered: list) -> None:
        trial = line["trial"]
        values = line["values"]
        if trial.isdigit():
            remembered[:] = [values]
            again = self._propose()
            if again.trial_id != trial or dict(again.hyperparameters.values) != values:
                raise UserError(
                    f"{self.search.path / 'journal.jsonl'}: trial {trial} was proposed as {values},"
                    f" and would now be {dict(again.hyperparameters.values)}. Resume with the"
                    " versions of tfbig and keras-tuner that began this search."
                )
        self.values[trial] = values

    def _ended(self, trial: str, outcome: dict) -> None:
        self.outcomes[trial] = outcome
        if trial.isdigit():
            completed = outcome["status"] == "completed"
            oracles.tell(
                self.oracle,
                trial,
                (
                    {**outcome["metrics"], "score": outcome["metrics"][self.primary]}
                    if completed
                    else None
                ),
                outcome["reason"],
            )

    def _stop_if_equal_failures(self) -> None:
        last = [
            outcome.get("reason")
            for outcome in list(self.outcomes.values())[-EQUAL_FAILURES:]
            if not outcome.get("inherited")
        ]
        if len(last) == EQUAL_FAILURES and last[0] is not None and len(set(last)) == 1:
            self.failure = (
                f"{EQUAL_FAILURES} trials in a row failed for the same reason, so the search was"
                f" stopped: {last[0]}"
            )

    def raise_failure(self) -> None:
        if self.failure:
            remedy = self.search.remedy.replace("Continue", "Once the cause is gone, continue")
            raise RunFailure(f"{self.failure}\n{remedy}")
