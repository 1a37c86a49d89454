"""Keras Tuner's oracles over tfbig's search space."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Iterator

from tfbig.core.lazy import keras, np
from tfbig.tuning.parameter import Parameter
from tfbig.tuning.search import Search
from tfbig.tuning.space import Space

# Hyperband's: which trial is continued, and up to which evaluation
PARENT, EVALUATIONS = "tuner/trial_id", "tuner/epochs"


def tuner_package():
    """Keras Tuner, imported after Keras has been started quietly."""
    keras.__version__  # noqa: B018 - starts TensorFlow without its messages
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras_tuner")
    import keras_tuner

    return keras_tuner


def build(search: Search, evaluations: int):
    """The oracle of a search.

    Its seed is tune.seed + 1, since Keras Tuner takes 0 for none. The limits of trials and of
    failures are the chief's.
    """
    kt = tuner_package()
    tune = search.tune
    better = search.base.task.primary[1]
    common = {
        "objective": kt.Objective("score", better),
        "seed": tune.seed + 1,
        "hyperparameters": hyperparameters(search.space),
        "allow_new_entries": False,
        "tune_new_entries": False,
        "max_consecutive_failed_trials": 2**31,
    }
    if tune.algorithm == "hyperband":
        oracle = _hyperband(kt)(
            max_epochs=evaluations,
            factor=tune.factor,
            hyperband_iterations=tune.iterations,
            **common,
        )
    elif tune.algorithm == "bayesian":
        oracle = _bayesian(kt)(max_trials=None, **common)
    else:
        oracle = {"random": kt.oracles.RandomSearchOracle, "grid": kt.oracles.GridSearchOracle}[
            tune.algorithm
        ](max_trials=None, **common)
    oracle.verbose = 0
    oracle._set_project_dir(str(search.path), "keras_tuner")  # as its BaseTuner does
    return oracle


def _hyperband(kt):
    class Hyperband(kt.oracles.HyperbandOracle):
        """A failed trial counts as the worst of its round.

        Keras Tuner's own waits for it in vain and promotes fewer.
        """

        def score_trial(self, trial):
            super().score_trial(trial)
            if trial.metrics.exists("failed"):
                trial.score = -np.inf if self.objective.direction == "max" else np.inf

        def scheduled(self) -> int:
            """How many trials the whole schedule has, counting those that continue another one."""
            brackets = range(self._get_num_brackets())
            rounds = (
                (bracket, number)
                for bracket in brackets
                for number in range(self._get_num_rounds(bracket))
            )
            return self.hyperband_iterations * sum(itertools.starmap(self._get_size, rounds))

    return Hyperband


def scheduled(oracle) -> int | None:
    """How many trials an oracle's schedule has; None if it has no schedule."""
    return oracle.scheduled() if hasattr(oracle, "scheduled") else None


def _bayesian(kt):
    class Bayesian(kt.oracles.BayesianOptimizationOracle):
        """Bayesian optimisation whose proposals depend on the seed and the trials so far alone.

        Proposals that are in the journal are not computed again.
        """

        remembered: list | None = None

        def populate_space(self, trial_id):
            known = sum(trial.status == "COMPLETED" for trial in self.trials.values())
            if self.remembered and known >= (
                self.num_initial_points or max(3 * len(self.hyperparameters.space), 3)
            ):
                return {"status": "RUNNING", "values": dict(self.remembered[0])}
            self._random_state = np.random.RandomState((self.seed + len(self.trials)) % 2**32)
            with warnings.catch_warnings():
                # The kernel's length scale at its bounds says nothing to a user
                warnings.simplefilter("ignore")
                return super().populate_space(trial_id)

    return Bayesian


@contextlib.contextmanager
def replaying(oracle) -> Iterator[list]:
    """A context in which an oracle writes nothing; yields a list in which it looks up proposals."""

    def write_nothing(*_) -> None:
        pass

    remembered: list = []
    kept = {name: getattr(oracle, name) for name in ("save", "_save_trial")}
    oracle.remembered = remembered
    oracle.save = write_nothing
    oracle._save_trial = write_nothing
    try:
        yield remembered
    finally:
        oracle.remembered = None
        for name, method in kept.items():
            setattr(oracle, name, method)


def tell(oracle, trial_id: str, metrics: dict[str, float] | None, reason: str | None) -> None:
    """Ends a trial in the oracle: with its metrics, or as failed."""
    entry = oracle.trials[trial_id]
    if metrics is None and hasattr(oracle, "hyperband_iterations"):
        metrics = {"failed": 1.0, "score": 0.0}
    for name, value in (metrics or {}).items():
        if not entry.metrics.exists(name):
            entry.metrics.register(name, oracle.objective.direction if name == "score" else "min")
        entry.metrics.update(name, value)
    status = "FAILED" if metrics is None else "COMPLETED"
    oracle.end_trial(
        tuner_package().engine.trial.Trial(
            hyperparameters=entry.hyperparameters, trial_id=trial_id, status=status, message=reason
        )
    )


def weigh(oracle, objectives: dict[str, str]) -> None:
    """Scores all completed trials anew by several objectives, weighted at random.

    Thus the whole Pareto front is sought. The score is ParEGO's augmented Chebyshev function
    (Knowles 2006, "ParEGO: A Hybrid Algorithm With On-line Landscape Approximation for Expensive
    Multiobjective Optimization Problems"), over objectives scaled to 0 ... 1.
    """
    done = [
        t
        for t in oracle.trials.values()
        if t.status == "COMPLETED" and not t.metrics.exists("failed")
    ]
    if not done:
        return
    weights = np.random.RandomState((oracle.seed + len(oracle.trials)) % 2**32).dirichlet(
        np.ones(len(objectives))
    )
    values = np.array(
        [[t.metrics.get_history(name)[0].value[0] for name in objectives] for t in done]
    )
    values = values * [-1.0 if better == "max" else 1.0 for better in objectives.values()]
    span = values.max(0) - values.min(0)
    scaled = (values - values.min(0)) / np.where(span > 0, span, 1.0)
    cost = (weights * scaled).max(1) + 0.05 * (weights * scaled).sum(1)
    sign = -1 if oracle.objective.direction == "max" else 1
    for entry, value in zip(done, sign * cost, strict=True):
        entry.score = float(value)


def trial(trial_id: str | None, status: str):
    """A trial as Keras Tuner's protocol carries it, without values.

    The protocol would round them and print conditions; they are in the journal.
    """
    kt = tuner_package()
    return kt.engine.trial.Trial(
        hyperparameters=kt.HyperParameters(), trial_id=trial_id or "none", status=status
    )


def hyperparameters(space: Space):
    """The search space as Keras Tuner's HyperParameters."""
    kt = tuner_package()
    hyper = kt.HyperParameters()
    for parameter in space.parameters:
        with contextlib.ExitStack() as scopes:
            for parent, values in parameter.when:
                owner = next(p for p in space.parameters if p.name == parent)
                scopes.enter_context(
                    hyper.conditional_scope(parent, [_choice(owner, value) for value in values])
                )
            _add(hyper, parameter)
    return hyper


def _add(hyper, parameter: Parameter) -> None:
    if parameter.kind == "in":
        hyper.Choice(parameter.name, [_choice(parameter, value) for value in parameter.choices])
        return
    add = hyper.Int if parameter.whole else hyper.Float
    limit = int if parameter.whole else float
    add(
        parameter.name,
        limit(parameter.low),
        limit(parameter.high),
        sampling="log" if parameter.kind == "log" else "linear",
    )


def _choice(parameter: Parameter, text: str):
    """A choice as a number if all of them are, so that their order counts; else its text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            numbers = [kind(choice) for choice in parameter.choices]
            if len(set(numbers)) == len(numbers):
                return kind(text)
    return text
