"""The space of a search: which settings take which values, and when.

All of it is checked before a trial starts.

    optim.learning_rate=log:1e-4..1e-1       any number between, drawn on a logarithmic scale
    model.dropout=lin:0..0.5                 any number between
    model.convolutions=int:2..8              any whole number between
    model.units=in:64,128,[256,128]          one of these; one that holds commas stands in brackets
    model=in:mlp,cnn mlp.units=in:64,128     a setting of one choice carries that choice's name

A setting that only some choices have (`model.filters` with `model=in:mlp,cnn`, `optim.momentum`
with `optim.optimizer=in:sgd,adam`) is searched where it exists; which choices those are is found by
validating, not from a list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tfbig.core import registry
from tfbig.core.experiment import Experiment
from tfbig.tuning.parameter import FORM, Parameter, is_searched, mistyped_kind, parse
from tfbig.tuning.validation import Checker, raise_problems, refusals

RESERVED = {
    "name": "names the recipe",
    "seed": "is the same for all trials; tune.seeds trains the finalists with others",
    "train.final_split": (
        "is the search's own: the test split is read after it, for the winner and the recipe"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Space:
    """All searched settings, those that others depend on first, and the fixed ones."""

    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...] = ()

    def settings(self, values: dict[str, Any]) -> list[str]:
        """Drawn values, by parameter name, as "key=value" settings, the fixed ones included.

        Only those that apply have a value.
        """
        return [
            *self.fixed,
            *(f"{p.key}={p.text(values[p.name])}" for p in self.parameters if p.name in values),
        ]


def read_space(base: Experiment, settings: list[str], complete: bool = True) -> Space:
    """The validated search space that "key=value" settings describe on top of an experiment.

    `complete`: as for `config.override`.

    Raises:
        UserError: with one line for each problem: where, what was expected, what was received, the
            nearest name.
    """
    problems: list[str] = []
    fixed = [text for text in settings if not is_searched(text)]
    problems += [
        f"{text.partition('=')[0]}: {message}" for text in fixed if (message := mistyped_kind(text))
    ]
    problems += [
        f"{key}: {RESERVED[key]}."
        for text in settings
        if (key := text.partition("=")[0]) in RESERVED and (is_searched(text) or key != "seed")
    ]
    parsed = [parse(text, problems) for text in settings if is_searched(text)]
    parameters = [parameter for parameter in parsed if parameter is not None]
    names = [parameter.name for parameter in parameters]
    keys = {text.partition("=")[0] for text in fixed}
    problems += [
        f"{name}: given twice."
        for name in sorted({n for n in names if names.count(n) > 1 or n in keys})
    ]
    if not any(map(is_searched, settings)) and not problems:
        problems.append(f"expected at least one setting to search, as key={FORM}.")
    raise_problems(problems)
    parameters = [_owned(parameter, parameters) for parameter in parameters]
    # "cnn.dropout=0.3": fixed, but for one choice only
    fixed_owned = [text for text in fixed if _owned_text(text, parameters)]
    fixed = [text for text in fixed if text not in fixed_owned]
    parameters += [_owned(parse(_as_choice(text), problems), parameters) for text in fixed_owned]
    searched = {parameter.key for parameter in parameters}
    alone = [text for text in fixed if text.partition("=")[0] not in searched]
    raise_problems(refusals(base, alone, complete))
    checked = Checker(base, tuple(fixed), parameters, complete).checked()
    return Space(parameters=checked, fixed=tuple(fixed))


def _owned_text(text: str, parameters: list[Parameter]) -> tuple[Parameter, str] | None:
    """The component's parameter and the choice whose name a setting carries."""
    for owner in parameters:
        if owner.key in registry.KEYS.values() and owner.kind == "in":
            for choice in owner.choices:
                if text.startswith(f"{choice}."):
                    return owner, choice
    return None


def _owned(parameter: Parameter, parameters: list[Parameter]) -> Parameter:
    """ "mlp.units" is "model.units" while "mlp" is the model."""
    owned = _owned_text(parameter.name, parameters)
    if owned is None:
        return parameter
    owner, choice = owned
    return replace(
        parameter,
        key=f"{owner.key}{parameter.name[len(choice) :]}",
        when=((owner.name, (choice,)),),
    )


def _as_choice(text: str) -> str:
    name, _, value = text.partition("=")
    return f"{name}=in:[{value}]"
