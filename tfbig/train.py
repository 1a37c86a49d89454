"""Train a recipe: prepare, train, evaluate, report."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from tfbig.core import cli, config, registry, workers
from tfbig.core.errors import Interrupted, UserError
from tfbig.core.experiment import Experiment
from tfbig.core.run import Follower, Run
from tfbig.engine import processes

EXAMPLES = """  python -m tfbig.train mnist_mlp
  python -m tfbig.train mnist_cnn train.length=5ep seed=1 run=runs/a
  python -m tfbig.train mnist_mlp model=cnn data=fashion_mnist --print
  python -m tfbig.train mnist_vit --dry-run
  # processes that share every batch
  python -m tfbig.train mnist_cnn device.strategy=mirrored device.count=2
  python -m tfbig.train --resume runs/a train.length=20ep

`python -m tfbig` lists the recipes; RECIPE --print shows every setting."""


def train(
    recipe: str | Experiment | None = None,
    *settings: str,
    run: str | Path | None = None,
    resume: str | Path | Run | None = None,
    callbacks: tuple = (),
) -> Run:
    """Trains a recipe or an experiment and returns its run directory, report included.

    Args:
        recipe: a recipe's name or an Experiment; left out when resuming.
        settings: "key=value" overrides, such as "train.length=2ep".
        run: the new run's directory; by default runs/NAME.
        resume: a run, or its directory, to continue; only settings of the training's length and
            bookkeeping may change. One that is finished is left as it is.
        callbacks: Keras callbacks; an "epoch" is the time between two evaluations.

    Raises:
        UserError: a setting, a name or a path is wrong.
        RunFailure: training could not go on; everything saved before is intact.

    Whatever ends a new run before anything was trained, no half-made directory is left.

    Example:
        >>> run = tfbig.train("mnist_mlp", "train.length=200", run="runs/first")
        >>> run.read_json("metrics.json")["test"]["metrics"]["accuracy"]["value"] > 0.8
        True
    """
    if (recipe is None) == (resume is None):
        raise UserError(
            "expected a recipe or a run to resume, one of them. `python -m tfbig` lists the"
            " recipes."
        )
    opened = (
        _resumed(resume, list(settings))
        if resume is not None
        else _created(recipe, list(settings), run)
    )
    fresh = resume is None and not isinstance(opened, Follower)
    if resume is not None and not callbacks and _has_ended(opened):
        return opened
    try:
        count = processes.wanted(opened.experiment)
        # They live in this process
        alone = count > 1 and opened.experiment.device.strategy == "auto" and callbacks
        if count > 1 and not alone:
            _train_by_several(opened, count, callbacks)
        else:
            _train_here(opened, callbacks, together=count)
    except BaseException:  # Ctrl-C too
        if fresh:
            opened.withdraw()
        raise
    return opened


def _has_ended(run: Run) -> bool:
    """Whether a run that is to be resumed is finished already; reports it."""
    from tfbig.engine import job
    from tfbig.report.console import Console

    if not job.is_finished(run):
        return False
    console = Console(quiet=isinstance(run, Follower))
    experiment = run.experiment
    console.note(
        f"{run.path} is finished: train.length={experiment.train.length} is reached, its metrics"
        " are in metrics.json."
    )
    console.note(
        cli.spoken(
            f"To go on: python -m tfbig.train --resume {shlex.quote(str(run.path))}"
            " train.length=LONGER"
        )
    )
    return True


def _train_by_several(run: Run, count: int, callbacks: tuple) -> None:
    """Trains a run in processes of this machine.

    Each resumes from the run directory, even if it is new.
    """
    if callbacks:
        raise UserError(
            "callbacks: expected none with device.strategy=mirrored, whose processes would not have"
            " them. Set device.strategy=single."
        )
    processes.run_workers(count, ["train", "--resume", str(run.path)])


def _train_here(run: Run, callbacks: tuple, together: int = 1) -> None:
    from tfbig.engine import job
    from tfbig.engine.setup import Lengths
    from tfbig.report import html
    from tfbig.report.console import Console

    # A worker that is not the chief reports only errors
    follows = isinstance(run, Follower)
    console = Console(quiet=follows)
    console.note(f"run: {run.path}")
    if together > 1:
        console.note(
            "callbacks live in this process, so it trains alone, on one accelerator. Without"
            f" callbacks, {together} accelerators would train together."
        )
    try:
        units = run.experiment.task.metric_units
        console = Console(Lengths.of(run.experiment).total, quiet=follows, units=units)
        job.train(run, console, callbacks)
    except Interrupted as stop:
        console.close()
        raise Interrupted(
            stop.signum,
            stop.step,
            f"stopped at step {stop.step:,}; all is saved. Continue with\npython -m tfbig.train"
            f" --resume {shlex.quote(str(run.path))}",
        ) from None
    finally:
        console.close()
    if not follows:
        console.note(f"report: {html.write(run.path)}")


def _created(recipe: str | Experiment, settings: list[str], run) -> Run:
    base = registry.recipe(recipe)
    experiment = config.override(base, settings)
    _check(experiment)
    here = workers.place(experiment.device.strategy)
    if here.count > 1 and run is None:
        raise UserError(
            "run: expected run=DIR with several workers, on a file system that all of them share."
        )
    return Run.create(run, experiment, base) if here.is_chief else Follower(Path(run), experiment)


def _check(experiment: Experiment) -> None:
    """Refuses data and weights that are not there, before anything heavy is imported."""
    from tfbig.engine import warm_start

    experiment.data.check()
    warm_start.check(experiment)


def _resumed(path, settings: list[str]) -> Run:
    run = path if isinstance(path, Run) else Run.open(path)
    experiment = changed(run, settings)
    experiment.data.check()
    run = run if workers.place(experiment.device.strategy).is_chief else Follower(run.path)
    if (
        experiment.train.length != run.experiment.train.length
        and experiment.optim.follows_length
        and not isinstance(run, Follower)
    ):
        from tfbig.report.console import Console

        Console().note(
            "train.length: warm-up and schedule are now those of the new length, so learning rates"
            " are others than the first part was made with."
        )
    if settings:
        with run.lock():
            run.write_config(experiment)
    return run


def changed(run: Run, settings: list[str]) -> Experiment:
    """A run's experiment with settings that may change when it is resumed.

    Raises:
        UserError: one of them may not, or makes the training shorter than it is already; or the
            checkpoints were made with others.
    """
    _refuse_fixed(run, settings)
    from tfbig.engine import checkpoint, loop

    experiment = config.override(run.experiment, settings)
    loop.check_settings(experiment, run.checkpoints)  # said once, before any worker starts
    if settings:
        from tfbig.engine.setup import Lengths

        reached = max(checkpoint.steps(run.checkpoints), default=0)
        length = Lengths.of(experiment).total
        if length < reached:
            raise UserError(
                f"train.length: expected at least the {reached:,} steps that {run.path} has made."
                f" Received: {experiment.train.length}, {length:,} steps."
            )
    return experiment


def _refuse_fixed(run: Run, settings: list[str]) -> None:
    """Refuses settings that a run keeps for ever."""
    wrong = [
        key
        for key in (str(text).partition("=")[0] for text in settings)
        if key in config.flatten(run.experiment) and key not in config.RESUMABLE
    ]
    if wrong:
        raise UserError(
            f"{', '.join(wrong)}: cannot change in a run that goes on, only"
            f" {', '.join(config.RESUMABLE)} can. Start a new run for it."
        )


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments; see `cli.RecipeParser`."""
    parser = cli.RecipeParser(
        "train", __doc__, EXAMPLES, made="run", settings="settings that differ from the recipe's"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="build everything, make one step, say what it takes"
    )
    # The process that ends with this one
    parser.add_argument("--supervisor", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def door(arguments: list[str]) -> dict:
    parsed = parse(arguments)
    if parsed.supervisor:
        processes.end_with(parsed.supervisor)
    if parsed.print or parsed.dry_run:
        return _look(parsed)
    run = train(parsed.recipe, *parsed.settings, run=parsed.run, resume=parsed.resume)
    return {
        "run": str(run.path),
        **(run.read_json("summary.json") or {}),
        "metrics": run.read_json("metrics.json") or {},
    }


def _look(parsed) -> dict:
    run = Run.open(parsed.resume) if parsed.resume else None
    base = run.experiment if run else registry.recipe(parsed.recipe)
    if run and parsed.settings:
        experiment = changed(run, parsed.settings)
    else:
        experiment = config.override(base, parsed.settings, complete=not parsed.print)
    if parsed.print:
        if not parsed.json:
            print(config.show(experiment, base, "run" if run else "recipe"))
        return config.to_json(experiment)
    _check(experiment)
    from tfbig.engine import job
    from tfbig.report.console import Console

    figures = job.dry_run(experiment, Console())
    if not parsed.json:
        print(
            "\n".join(
                (
                    f"{name.replace('_', ' '):<26} {value:,}"
                    if type(value) is int
                    else f"{name.replace('_', ' '):<26} {value}"
                )
                for name, value in figures.items()
            )
        )
    return figures


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, train)
