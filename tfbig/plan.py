"""Plan a training: parameters, arithmetic, memory, time and cost, before it starts."""

from __future__ import annotations

import math
import sys
import time

from tfbig.core import cli, config, registry
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.lazy import load
from tfbig.engine.hardware import HARDWARE, named

EXAMPLES = """  python -m tfbig.plan mnist_cnn                     # a short try on this machine
  python -m tfbig.plan mnist_vit device.precision=bfloat16 --hardware h100 --price 3.5
  python -m tfbig.plan cifar10_cnn train.length=100ep --json"""


def plan(
    recipe: str | Experiment,
    *settings: str,
    hardware: str | None = None,
    price: float | None = None,
) -> dict:
    """How long a training will take, whether it will fit, and what it costs.

    Args:
        recipe: a recipe's name or an Experiment.
        settings: "key=value" overrides.
        hardware: a named accelerator, judged by arithmetic; None: a few steps are tried on this
            machine.
        price: of an hour, in any currency.

    Example:
        >>> tfbig.plan("mnist_mlp", hardware="h100")["parameters"]
        101770
    """
    from tfbig.engine import plan as engine
    from tfbig.engine.readable import Readable
    from tfbig.engine.setup import Setup, training_facts
    from tfbig.engine.trained import load_parts
    from tfbig.report.console import Console

    target = None if hardware is None else named(hardware)
    if price is not None and not 0 < price < math.inf:
        raise UserError(f"--price: expected more than 0. Received: {price}.")
    base = registry.recipe(recipe)
    experiment = config.override(base, list(settings))
    experiment.data.check()
    load()
    at = time.monotonic()
    data = Readable(experiment.data)
    used = load_parts(None, experiment.task, Console())
    setup = Setup(experiment, training_facts(experiment, data), data=data, parts=used)
    prepared = time.monotonic() - at
    figures = engine.by_arithmetic(setup, target) if target else engine.by_trying(setup, prepared)
    if price is not None:
        figures["cost"] = float(f"{price * figures['seconds'] / 3600:.4g}")
    return engine.finite(figures)


def show(figures: dict) -> str:
    """The plan in lines for people."""
    from tfbig.report.console import duration_text, number

    rows = [
        ("parameters", f"{figures['parameters']:,}"),
        (
            "arithmetic",
            (
                f"{number(figures['forward_flops_per_example'])} operations forward for an example,"
                f" {number(figures['flops_per_step'])} for a step"
            ),
        ),
        (
            "length",
            (
                f"{figures['steps']:,} steps, {figures['examples_to_see']:,} examples"
                + (f", {figures['epochs']:g} epochs" if figures["epochs"] is not None else "")
            ),
        ),
        (
            "memory",
            (
                f"{_mb(figures['memory_mb'])}: weights {_mb(figures['weights_mb'])}, gradients"
                f" {_mb(figures['gradients_mb'])}, optimiser {_mb(figures['optimizer_mb'])},"
                f" activations {_mb(figures['activations_mb'])}"
            ),
        ),
        ("on", figures["hardware"]),
    ]
    is_measured = "step_ms" in figures
    rows += _measured(figures) if is_measured else _assumed(figures)
    seconds = figures["seconds"]
    time_text = duration_text(seconds) if seconds >= 10 else f"{seconds:.2g} s"
    time_text += f", {_price(figures['cost'])} for it" if "cost" in figures else ""
    rows.append(("time", time_text))
    if not is_measured:
        rows.append(
            (
                "",
                (
                    "importing, compiling and reading come on top, and waiting for memory, most of"
                    " all in small operations"
                ),
            )
        )
    rows += [("change" if i == 0 else "", text) for i, text in enumerate(figures["advice"])]
    return "\n".join(f"{name:<12} {text}" for name, text in rows)


def _measured(figures: dict) -> list[tuple[str, str]]:
    """The rows of a plan that was tried on this machine."""
    return [
        (
            "measured",
            (
                f"{figures['step_ms']:.3g} ms a step, {figures['examples_per_s']:,.0f} examples/s;"
                f" compiling {figures['compile_seconds']:.1f} s"
            ),
        ),
        (
            "",
            (
                f"an evaluation {figures['evaluation_seconds']:.2f} s, a checkpoint"
                f" {figures['checkpoint_seconds']:.2f} s"
            ),
        ),
        ("peak memory", f"{_mb(figures['peak_memory_mb'])} of this process, TensorFlow included"),
    ]


def _assumed(figures: dict) -> list[tuple[str, str]]:
    """The rows of a plan by arithmetic."""
    fits = "yes" if figures["fits"] else "no"
    return [
        ("assumed", figures["assumed"]),
        ("fits", f"{fits}, {figures['memory_there_mb'] / 1e3:,.0f} GB there"),
    ]


def _mb(size: float) -> str:
    """Megabytes in the unit that suits them."""
    return f"{size / 1e3:,.2f} GB" if size >= 1e3 else f"{size:,.2f} MB"


def _price(cost: float) -> str:
    """A price with two digits behind the point, and with two that are not zero."""
    if cost >= 0.1 or not cost:
        return f"{cost:,.2f}"
    return f"{cost:.{max(2, 1 - math.floor(math.log10(cost)))}f}"


def door(arguments: list[str]) -> dict:
    parser = cli.Parser("plan", __doc__, EXAMPLES)
    parser.add_argument("recipe", help="a recipe's name")
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="settings that differ from the recipe's"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--probe",
        action="store_true",
        help="try a few steps on this machine (what is done without --hardware, too)",
    )
    listed = ", ".join(HARDWARE)
    source.add_argument("--hardware", help=f"judge by arithmetic what is not here: {listed}")
    parser.add_argument("--price", type=float, help="of an hour on it")
    parsed = parser.parse_args(arguments)
    figures = plan(parsed.recipe, *parsed.settings, hardware=parsed.hardware, price=parsed.price)
    if not parsed.json:
        print(show(figures))
    return figures


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, plan)
