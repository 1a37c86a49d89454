"""Predict with a run: labels for pictures, text from a prompt, whatever its task makes."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from tfbig.core import cli, config
from tfbig.core.errors import UserError
from tfbig.core.registry import nearest
from tfbig.core.run import Run

EXAMPLES = """  python -m tfbig.predict runs/mnist_mlp digit.png
  python -m tfbig.predict runs/mnist_mlp folder/ more.npy --top 3 --json
  cat digit.png | python -m tfbig.predict runs/mnist_mlp -
  python -m tfbig.predict runs/sotu_gpt "My fellow citizens" --temperature 0.7 --length 300

.npy holds uint8 pictures [height, width], [n, height, width] or [n, height, width, channels] of the model's own size.
RUN --help shows the options of that run's task."""


def predict(run: str | Path | Run, inputs, *, step: str | int = "best", write=lambda text: None, **options) -> list[dict]:
    """What a run's task makes of some inputs.

    Args:
        run: the run directory.
        inputs: for pictures: paths of files, folders or .npy files, or an array uint8 [n, height, width, channels]; for text:
            a prompt or several.
        step: "best", "last" or a step that has a checkpoint.
        write: gets what a terminal would show, as soon as there is any.
        options: what the task knows to be asked for, such as top=3 or temperature=0.7; RUN --help of the command lists them.

    Returns:
        JSON values, one for each prediction: for a picture {"input", "label", "probability", "top": [[label, probability],
        ...]}, for a prompt {"input", "text"}.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    request = ask(opened, options)
    from tfbig.engine import job
    from tfbig.report.console import Console

    trained = job.Trained(opened, str(step), Console())
    return trained.task.respond(trained, inputs, request, write)


def ask(run: Run, options: dict):
    """The task's request with these options; all that is wrong with them is said at once."""
    kind = run.experiment.task.request
    known = {field.name for field in dataclasses.fields(kind)}
    strange = [f"{name}: no such option.{nearest(name, known)} Expected one of {', '.join(sorted(known)) or 'none'}." for name in options if name not in known]
    if strange:
        raise UserError("\n".join(strange))
    request = kind(**options)
    problems = [f"{name}: {message}" for name, message in config.part_problems(request)]
    if problems:
        raise UserError("\n".join(problems))
    return request


def door(arguments: list[str]) -> dict:
    parser = cli.Parser("predict", __doc__, EXAMPLES)
    parser.add_argument("run", help="a run directory")
    parser.add_argument("inputs", nargs="+", help="picture files, folders or .npy files; prompts; - for stdin")
    parser.add_argument("--step", default="best", help="best, last or a step number (default: best)")
    path = next((word for word in arguments if (Path(word) / "config.json").is_file()), None)
    fields = dataclasses.fields(Run.open(path).experiment.task.request) if path else ()
    for field in fields:
        text = f"{field.metadata['doc']} (default: {config.text_of(field.default)})".replace("%", "%%")
        parser.add_argument(f"--{field.name.replace('_', '-')}", dest=field.name, help=text, metavar="VALUE")
    given = parser.parse_args(arguments)
    hints = config.hints(Run.open(given.run).experiment.task.request)
    options = {field.name: _parse(field.name, getattr(given, field.name), hints) for field in fields if getattr(given, field.name) is not None}
    results = predict(given.run, given.inputs, step=given.step, write=(lambda text: None) if given.json else _show, **options)
    return {"run": given.run, "predictions": results}


def _parse(name: str, text: str, hints: dict):
    try:
        return config.parse(text, hints[name])
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, predict)
