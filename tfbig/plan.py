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
    """
    from tfbig.engine import plan as engine
    from tfbig.engine.readable import Readable
    from tfbig.engine.setup import Setup, training_facts
    from tfbig.engine.trained import load_parts
    from tfbig.report.console import Console

    there = None if hardware is None else named(hardware)
    if price is not None and not 0 < price < math.inf:
        raise UserError(f"--price: expected more than 0. Received: {price}.")
    base = registry.recipe(recipe)
    experiment = config.override(base, list(settings))
    experiment.data.check()
    load()
    at, data = time.monotonic(), Readable(experiment.data)
    used = load_parts(None, experiment.task, Console())
    setup = Setup(experiment, training_facts(experiment, data), data=data, parts=used)
    prepared = time.monotonic() - at
    found = engine.by_arithmetic(setup, there) if there else engine.by_trying(setup, prepared)
    if price is not None:
        found["cost"] = float(f"{price * found['seconds'] / 3600:.4g}")
    return engine.finite(found)


def show(found: dict) -> str:
    """The plan in lines for people."""
    from tfbig.report.console import duration_text, number

    def mb(name):
        return f"{found[name] / 1e3:,.2f} GB" if found[name] >= 1e3 else f"{found[name]:,.2f} MB"

    rows = [
        ("parameters", f"{found['parameters']:,}"),
        (
            "arithmetic",
            (
                f"{number(found['forward_flops_per_example'])} operations forward for an example,"
                f" {number(found['flops_per_step'])} for a step"
            ),
        ),
        (
            "length",
            (
                f"{found['steps']:,} steps, {found['examples_to_see']:,} examples,"
                f" {found['epochs']:g} epochs"
            ),
        ),
        (
            "memory",
            (
                f"{mb('memory_mb')}: weights {mb('weights_mb')}, gradients {mb('gradients_mb')},"
                f" optimiser {mb('optimizer_mb')}, activations {mb('activations_mb')}"
            ),
        ),
        ("on", found["hardware"]),
    ]
    if "step_ms" in found:
        rows += [
            (
                "measured",
                (
                    f"{found['step_ms']:.3g} ms a step, {found['examples_per_s']:,.0f} examples/s;"
                    f" compiling {found['compile_seconds']:.1f} s"
                ),
            ),
            (
                "",
                (
                    f"an evaluation {found['evaluation_seconds']:.2f} s, a checkpoint"
                    f" {found['checkpoint_seconds']:.2f} s"
                ),
            ),
            ("peak memory", f"{mb('peak_memory_mb')} of this process, TensorFlow included"),
        ]
    else:
        rows += [
            ("assumed", found["assumed"]),
            (
                "fits",
                (
                    f"{'yes' if found['fits'] else 'no'}, {found['memory_there_mb'] / 1e3:,.0f} GB"
                    " there"
                ),
            ),
        ]
    seconds = found["seconds"]
    told = duration_text(seconds) if seconds >= 10 else f"{seconds:.2g} s"
    told += f", {_price(found['cost'])} for it" if "cost" in found else ""
    rows.append(("time", told))
    if "step_ms" not in found:
        rows.append(
            (
                "",
                (
                    "importing, compiling and reading come on top, and waiting for memory, most of"
                    " all in small operations"
                ),
            )
        )
    rows += [("change" if i == 0 else "", text) for i, text in enumerate(found["advice"])]
    return "\n".join(f"{name:<12} {text}" for name, text in rows)


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
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--probe",
        action="store_true",
        help="try a few steps on this machine (what is done without --hardware, too)",
    )
    listed = ", ".join(HARDWARE)
    where.add_argument("--hardware", help=f"judge by arithmetic what is not here: {listed}")
    parser.add_argument("--price", type=float, help="of an hour on it")
    given = parser.parse_args(arguments)
    found = plan(given.recipe, *given.settings, hardware=given.hardware, price=given.price)
    if not given.json:
        print(show(found))
    return found


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
cli.make_callable(__name__, plan)
