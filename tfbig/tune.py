"""Tune a recipe: search its settings, train the best again with other seeds, report."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tfbig.core import cli, config, registry
from tfbig.core.errors import DiskFull, Interrupted, RunFailure, UserError
from tfbig.core.experiment import Experiment
from tfbig.tuning.parameter import is_searched
from tfbig.tuning.search import Search
from tfbig.tuning.settings import Settings, Tune, count_trainings, read_settings

if TYPE_CHECKING:
    from tfbig.report.trials import Progress
    from tfbig.tuning.chief import Chief

EXAMPLES = """  python -m tfbig.tune mnist_mlp                      # the recipe's own search space
  python -m tfbig.tune mnist_mlp optim.learning_rate=log:1e-4..1e-1 model.units=in:64,128,256
  python -m tfbig.tune mnist_mlp model=in:mlp,cnn mlp.units=in:64,[128,64] tune.time=30m
  python -m tfbig.tune mnist_cnn tune.algorithm=hyperband tune.workers=2 run=runs/search
  python -m tfbig.tune --resume runs/search tune.time=2h

key=log:LOW..HIGH, lin:LOW..HIGH, int:LOW..HIGH and in:A,B,C name what is searched, key=value what
is fixed.
RECIPE --print shows the settings of the search and its space."""


def tune(
    recipe: str | Experiment | None = None,
    *settings: str,
    run: str | Path | None = None,
    resume: str | Path | None = None,
) -> Search:
    """Searches for better settings of a recipe or an experiment; returns the search directory.

    A report is in it.

    Args:
        recipe: a recipe's name or an Experiment; left out when resuming.
        settings: what is searched, such as "optim.learning_rate=log:1e-4..1e-1", what is fixed, and
            tune.* settings.
        run: the new search directory; by default runs/tune_NAME.
        resume: a search directory to continue.

    Raises:
        UserError: a setting, a name or a path is wrong; nothing has been trained.
        RunFailure: the search could not go on; all trials are kept.
        Interrupted: a signal asked to stop; all trials are kept.
    """
    if (recipe is None) == (resume is None):
        raise UserError(
            "expected a recipe or a search to resume, one of them. `python -m tfbig` lists the"
            " recipes."
        )
    if resume is not None:
        search = Search.open(resume, list(settings))
    else:
        base = registry.recipe(recipe)
        name = recipe if isinstance(recipe, str) else base.name
        search = Search.create(
            run,
            name,
            base,
            _with_own_space(name if isinstance(recipe, str) else None, list(settings)),
        )
    _search(search)
    return search


def _with_own_space(recipe: str | None, settings: list[str]) -> list[str]:
    """The settings with the recipe's own search space if they have none, without fixed settings."""
    if recipe is None or any(map(is_searched, settings)):
        return settings
    fixed = {text.partition("=")[0] for text in settings}
    return [
        *settings,
        *(text for text in registry.search_space(recipe) if text.partition("=")[0] not in fixed),
    ]


def _search(search: Search) -> None:
    """Leads the search to its end in this process; its workers are here or on a cluster."""
    from tfbig.engine.facts import notes
    from tfbig.report import search as report
    from tfbig.report.trials import Progress
    from tfbig.tuning import trials, workers
    from tfbig.tuning.chief import Chief

    progress = Progress(search)
    role = workers.role()
    progress.note(f"search: {search.path}")
    try:
        with search.lock():
            chief = Chief(search, trials.whole_length(search.experiment), alone=role is None)
            counts = chief.trainings()
            search.write_trainings(counts)
            progress.note(_trainings_text(search.tune, counts))
            for line in notes(search.experiment.data):  # otherwise only in the trials' own logs
                progress.note(line)
            progress.resumed(chief.outcomes)
            if role == "chief":
                workers.lead(chief, progress.note)
            else:
                workers.lead_here(search, chief, progress.note)
            if chief.failure:
                progress.note(f"report: {report.write(search)}")
            chief.raise_failure()
            _conclude(search, chief, progress)
    except (KeyboardInterrupt, Interrupted) as stop:
        signum = getattr(stop, "signum", signal.SIGINT)
        raise Interrupted(signum, 0, f"stopped. {search.remedy}") from None


def _trainings_text(tune: Tune, counts: dict[str, int | None]) -> str:
    """How many trainings the search takes, in words."""
    trials = counts["trials"]
    if trials is not None:
        parts = [f"{trials:,} trial{'s' if trials > 1 else ''}"]
    elif tune.time is not None:
        parts = [f"trials until tune.time={tune.time} is over"]
    else:
        parts = [f"as many trials as {tune.algorithm} makes of the space"]
    if counts["baseline"]:
        parts.append("the recipe's own settings")
    if counts["again"]:
        best = f"the best {counts['again'] // tune.seeds - counts['baseline']}"
        compared = f"{best} and the recipe" if counts["baseline"] else best
        seeds = f"{tune.seeds} other seed{'s' if tune.seeds > 1 else ''} each"
        parts.append(f"then {counts['again']:,} for {compared}, with {seeds}")
    most = "" if counts["most"] is None else f"{counts['most']:,} at most: "
    return f"trainings: {most}{', '.join(parts)}"


def _work(path: str | Path, started_by_chief: bool) -> None:
    """Trains the trials that the chief hands out, until there are no more."""
    from tfbig.report.trials import Progress
    from tfbig.tuning import trials, workers

    if started_by_chief:
        workers.serve_parent()
    deadline = time.monotonic() + workers.PATIENCE_SECONDS
    while not (Path(path) / "search.json").exists() and time.monotonic() < deadline:
        time.sleep(workers.POLL_SECONDS)  # the chief has not made it yet
    search = Search.open(path)
    name = os.environ["KERASTUNER_TUNER_ID"]
    progress = Progress(
        search, prefix="" if started_by_chief and search.tune.workers == 1 else f"{name}: "
    )
    try:
        trials.work(search, workers.Client(), name, progress.observe, progress.ended)
    except DiskFull as error:
        error.exit_code = os.EX_IOERR  # tells the chief that starting again is no help
        raise
    except (KeyboardInterrupt, Interrupted):
        if started_by_chief:  # which asked for it, and says so
            raise SystemExit(128 + signal.SIGINT) from None
        raise


def _conclude(search: Search, chief: Chief, progress: Progress) -> None:
    """The verdict, the test split, and the reports."""
    from tfbig.report import html
    from tfbig.report import search as report
    from tfbig.tuning import verdict

    result = verdict.decide(search, chief)
    if result is None:
        raise RunFailure(
            f"no trial was completed, so there is no best one. The reasons: {report.write(search)}"
        )
    result |= verdict.read_test(search, result, progress.quiet())
    search.write_json("best.json", result)
    search.write_json("importance.json", verdict.importance(search, chief))
    for run in sorted(
        {search.path / outcome["run"] for outcome in chief.outcomes.values() if outcome["run"]}
    ):
        summary = run / "summary.json"
        page = run / "report.html"
        if summary.exists() and not (
            page.exists() and page.stat().st_mtime >= summary.stat().st_mtime
        ):
            html.write(run)
    progress.note(f"report: {report.write(search)}")
    progress.note(f"best: {result['line'] or search.path / result['run']}")


def door(arguments: list[str]) -> dict:
    parser = cli.RecipeParser(
        "tune",
        __doc__,
        EXAMPLES,
        made="search",
        settings="what is searched, fixed, and tune.* settings",
    )
    parser.add_argument("--worker", action="store_true", help=cli.argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.print:
        return _look(parsed)
    if _is_worker():
        path = parsed.resume or parsed.run
        if path is None:
            raise UserError(
                "run: expected the search's directory, since KERASTUNER_TUNER_ID makes this process"
                " a worker."
            )
        _work(path, parsed.worker)
        return {"search": path}
    search = tune(parsed.recipe, *parsed.settings, run=parsed.run, resume=parsed.resume)
    best = search.read_json("best.json")
    if not parsed.json:
        print(best["line"] or search.path / best["run"])
    return {"search": os.fspath(search.path), **best}


def _is_worker() -> bool:
    from tfbig.tuning import workers

    return workers.role() == "worker"


def _look(parsed) -> dict:
    if parsed.resume:
        search = Search.open(parsed.resume)
        knobs = search.changed(parsed.settings)
        space = search.space
    else:
        base = registry.recipe(parsed.recipe)
        settings = _with_own_space(parsed.recipe, parsed.settings)
        knobs, space = read_settings(base, settings, complete=False)
    counts = count_trainings(knobs, space)
    if not parsed.json:
        print(config.show(Settings(tune=knobs), Settings(), "default"))
        for parameter in space.parameters:
            conditions = " and ".join(
                f"{name}={'|'.join(values)}" for name, values in parameter.when
            )
            print(f"  {parameter}{f'  # where {conditions}' if conditions else ''}")
        print(
            "\n".join(
                [*(f"  {text}  # fixed" for text in space.fixed), _trainings_text(knobs, counts)]
            )
        )
    return {
        "tune": {
            key.partition(".")[2]: value
            for key, value in config.flatten(Settings(tune=knobs)).items()
        },
        "space": [str(p) for p in space.parameters],
        "fixed": list(space.fixed),
        "trainings": counts,
    }


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, tune)
