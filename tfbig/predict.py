"""Predict with a run: labels for pictures, text from a prompt, whatever its task makes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tfbig.core import cli, knobs
from tfbig.core.run import Run

EXAMPLES = """  python -m tfbig.predict runs/mnist_mlp digit.png
  python -m tfbig.predict runs/mnist_mlp folder/ more.npy --top 3 --json
  cat digit.png | python -m tfbig.predict runs/mnist_mlp -
  python -m tfbig.predict runs/sotu_gpt "My fellow citizens" --temperature 0.7 --length 300

.npy holds uint8 pictures [height, width], [n, height, width] or [n, height, width, channels] of the
model's own size. Of several files, those that cannot be read are named at the end, exit code 2; the
others are predicted all the same.
RUN --help shows the options of that run's task."""


def predict(
    run: str | Path | Run, inputs, *, step: str | int = "best", write=lambda text: None, **options
) -> list[dict]:
    """A run's predictions from some inputs.

    Args:
        run: the run directory.
        inputs: for pictures: paths of files, folders or .npy files, or an array uint8 [n, height,
            width, channels]; for text: a prompt or several.
        step: "best", "last" or a step that has a checkpoint.
        write: gets what a terminal would show, as soon as there is any.
        options: what the task knows to be asked for, such as top=3 or temperature=0.7; RUN --help
            of the command lists them.

    Returns:
        JSON values, one for each prediction: for a picture {"input", "label", "probability",
            "top": [[label, probability], ...]}, for a prompt {"input", "text"}.

    Raises:
        PartlyRefused: some picture files cannot be read; it carries the predictions of the others.

    Example:
        >>> black = np.zeros((1, 28, 28, 1), np.uint8)
        >>> (answer,) = tfbig.predict("runs/first", black, top=3)
        >>> answer["label"] == answer["top"][0][0], len(answer["top"])
        (True, 3)
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    request = knobs.component(opened.experiment.task.request, options)
    inputs = list(inputs) if isinstance(inputs, Iterator) else inputs
    opened.experiment.task.check_inputs(inputs)
    from tfbig.engine.trained import Trained
    from tfbig.report.console import Console

    trained = Trained(opened, str(step), Console())
    return trained.task.respond(trained, inputs, request, write)


def door(arguments: list[str]) -> dict:
    parser = cli.Parser("predict", __doc__, EXAMPLES)
    parser.add_argument("run", help="a run directory")
    parser.add_argument(
        "inputs", nargs="+", help="picture files, folders or .npy files; prompts; - for stdin"
    )
    parser.add_argument(
        "--step", default="best", help="best, last or a step number (default: best)"
    )
    knobs = cli.add_knobs(parser, arguments, lambda run: run.experiment.task.request)
    parsed = parser.parse_args(arguments)
    options = cli.given_knobs(parsed, knobs or Run.open(parsed.run).experiment.task.request)
    results = predict(
        parsed.run,
        parsed.inputs,
        step=parsed.step,
        write=(lambda text: None) if parsed.json else _show,
        **options,
    )
    return {"run": parsed.run, "predictions": results}


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, predict)
