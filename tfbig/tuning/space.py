"""The search space of a tuning.

Which settings take which values, and when. All of it is checked before a trial starts.

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

import itertools
import random
import re
import types
import typing
from dataclasses import dataclass, replace
from typing import Any

from tfbig.core import config, registry
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment

KINDS = ("log", "lin", "int", "in")
FORM = "log:LOW..HIGH, lin:LOW..HIGH, int:LOW..HIGH or in:A,B,C"
MOST_DRAWS = 20  # whole trials that are tried for each value
MOST_WHOLE_NUMBERS = 64  # so many are validated one by one; of more, the limits
RESERVED = {
    "name": "names the recipe",
    "seed": "is the same for all trials; tune.seeds trains the finalists with others",
    "train.final_split": (
        "is the search's own: the test split is read after it, for the winner and the recipe"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One searched setting.

    Attributes:
        name: as it was written, such as "mlp.units"; unique in a space.
        key: the setting it decides, such as "model.units".
        kind: "log", "lin", "int" or "in".
        choices: the values of "in", as text.
        low, high: the limits of the other kinds, both included.
        whole: whether only whole numbers are drawn.
        when: (name of another parameter, its values) pairs; searched only while all of them hold.
    """

    name: str
    key: str
    kind: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def text(self, value: Any) -> str:
        """A drawn value as it is written on the command line.

        Numbers with four significant digits, within the limits.
        """
        if self.kind == "in":
            return str(value)
        return (
            str(int(value))
            if self.whole
            else str(min(self.high, max(self.low, float(f"{value:.4g}"))))
        )

    @property
    def probes(self) -> tuple[str, ...]:
        """The values that are validated: all choices, or both limits."""
        return self.choices or (self.text(self.low), self.text(self.high))

    def __str__(self) -> str:
        if self.kind == "in":
            return f"{self.name}=in:{','.join(f'[{c}]' if ',' in c else c for c in self.choices)}"
        low, high = (
            str(int(limit)) if self.whole else repr(float(limit)) for limit in (self.low, self.high)
        )
        return f"{self.name}={self.kind}:{low}..{high}"


@dataclass(frozen=True, kw_only=True)
class Space:
    """All searched settings, those that others depend on first, and the fixed ones."""

    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...] = ()

    def settings(self, values: dict[str, Any]) -> list[str]:
        """Drawn values (by parameter name, only those that apply) as "key=value" settings, the
        fixed ones included.
        """
        return [
            *self.fixed,
            *(f"{p.key}={p.text(values[p.name])}" for p in self.parameters if p.name in values),
        ]


def is_searched(setting: str) -> bool:
    """Whether a "key=value" setting names values to search instead of one value."""
    kind, colon, _ = setting.partition("=")[2].partition(":")
    return bool(colon) and kind in KINDS


def read_space(base: Experiment, settings: list[str], complete: bool = True) -> Space:
    """The search space that "key=value" settings describe, on top of a recipe's experiment.

    Fully validated.

    `complete`: as for `config.override`.

    Raises:
        UserError: with one line for each problem: where, what was expected, what was received, the
            nearest name.
    """
    problems: list[str] = []
    fixed = [text for text in settings if not is_searched(text)]
    problems += [
        f"{text.partition('=')[0]}: {message}"
        for text in fixed
        if (message := _mistyped_kind(text))
    ]
    problems += [
        f"{key}: {RESERVED[key]}."
        for text in settings
        if (key := text.partition("=")[0]) in RESERVED and (is_searched(text) or key != "seed")
    ]
    found = [_parse(text, problems) for text in settings if is_searched(text)]
    parameters = [parameter for parameter in found if parameter is not None]
    names = [parameter.name for parameter in parameters]
    keys = {text.partition("=")[0] for text in fixed}
    problems += [
        f"{name}: given twice."
        for name in sorted({n for n in names if names.count(n) > 1 or n in keys})
    ]
    if not any(map(is_searched, settings)) and not problems:
        problems.append(f"expected at least one setting to search, as key={FORM}.")
    _raise(problems)
    parameters = [_owned(parameter, parameters) for parameter in parameters]
    # "cnn.dropout=0.3": fixed, but for one choice only
    fixed_owned = [text for text in fixed if _owned_text(text, parameters)]
    fixed = [text for text in fixed if text not in fixed_owned]
    parameters += [_owned(_parse(_as_choice(text), problems), parameters) for text in fixed_owned]
    searched = {parameter.key for parameter in parameters}
    alone = [text for text in fixed if text.partition("=")[0] not in searched]
    _raise(_refusals(base, alone, complete))
    return _Checker(base, tuple(fixed), parameters, complete).checked()


def _raise(problems: list[str]) -> None:
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))


def _mistyped_kind(text: str) -> str:
    kind, colon, rest = text.partition("=")[2].partition(":")
    if colon and re.fullmatch(r"[a-z]+", kind) and (".." in rest or "," in rest):
        return (
            f"expected {FORM}. Received: {text.partition('=')[2]!r}.{registry.nearest(kind, KINDS)}"
        )
    return ""


def _parse(text: str, problems: list[str]) -> Parameter | None:
    """One "key=kind:values" setting; what is wrong with it goes to `problems`."""
    name, _, rest = text.partition("=")
    kind, _, body = rest.partition(":")
    if not name:
        problems.append(f"{text}: expected a setting's name before the =.")
        return None
    if kind == "in":
        parts = [part.strip() for part in re.split(r",(?![^\[(]*[\])])", body)]
        choices = tuple(
            part[1:-1] if part[:1] in "[(" and part[-1:] in "])" and part else part
            for part in parts
        )
        if not all(choices) or len(set(choices)) < len(choices):
            problems.append(f"{name}: expected different values, in:A,B,C. Received: {rest!r}.")
            return None
        return Parameter(name=name, key=name, kind=kind, choices=choices)
    low, dots, high = body.partition("..")
    try:
        limits = (
            [config.parse(part, int if kind == "int" else float) for part in (low, high)]
            if dots
            else None
        )
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return None
    if limits is None or limits[0] >= limits[1]:
        problems.append(
            f"{name}: expected {kind}:LOW..HIGH with LOW below HIGH. Received: {rest!r}."
        )
        return None
    if kind == "log" and limits[0] <= 0:
        problems.append(
            f"{name}: expected a lower limit above 0 on a logarithmic scale. Received: {rest!r}."
        )
        return None
    return Parameter(
        name=name, key=name, kind=kind, low=limits[0], high=limits[1], whole=kind == "int"
    )


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
    found = _owned_text(parameter.name, parameters)
    if found is None:
        return parameter
    owner, choice = found
    return replace(
        parameter,
        key=f"{owner.key}{parameter.name[len(choice) :]}",
        when=((owner.name, (choice,)),),
    )


def _as_choice(text: str) -> str:
    name, _, value = text.partition("=")
    return f"{name}=in:[{value}]"


def _refusals(base: Experiment, settings: list[str], complete: bool = True) -> list[str]:
    try:
        config.override(base, settings, complete)
    except UserError as error:
        return str(error).split("\n")
    return []


class _Checker:
    """Finds on which choices each parameter depends, its type, and whether all values are valid,
    alone and in pairs.
    """

    def __init__(
        self, base: Experiment, fixed: tuple[str, ...], parameters: list[Parameter], complete: bool
    ):
        self.base, self.fixed, self.parameters, self.complete = base, fixed, parameters, complete
        self.problems: list[str] = []

    def checked(self) -> Space:
        order = sorted(
            self.parameters,
            key=lambda p: (p.key not in registry.KEYS.values(), p.kind != "in", "." in p.key),
        )
        done: list[Parameter] = []
        for parameter in order:
            for parent in done:
                if parent.kind == "in":
                    parameter = self._conditioned(parameter, parent, done)
            parameter = self._typed(parameter, done)
            self._check_alone(parameter, done)
            done.append(parameter)
        _raise(self.problems)
        self._check_pairs(done)
        _raise(self.problems)
        space = Space(parameters=tuple(_parents_first(done)), fixed=self.fixed)
        self._check_whole(space)
        _raise(self.problems)
        return space

    def _context(self, parameter: Parameter, known: list[Parameter]) -> dict[str, str]:
        """Settings under which a parameter applies."""
        texts: dict[str, str] = {}
        for name, values in parameter.when:
            parent = next(p for p in known if p.name == name)
            texts.update({**self._context(parent, known), parent.key: values[0]})
        return texts

    def _refusals(self, settings: list[str]) -> list[str]:
        return _refusals(self.base, settings, self.complete)

    def _problems_with(self, texts: dict[str, str], key: str) -> list[str]:
        """What is said against a setting among others."""
        fixed = [text for text in self.fixed if text.partition("=")[0] not in texts]
        return [
            line
            for line in self._refusals([*fixed, *(f"{k}={v}" for k, v in texts.items())])
            if line.startswith(f"{key}:")
        ]

    def _conditioned(
        self, parameter: Parameter, parent: Parameter, done: list[Parameter]
    ) -> Parameter:
        """The parameter, tied to those choices of the parent under which it exists, unless that is
        all of them.
        """
        if parameter.key == parent.key or any(name == parent.name for name, _ in parameter.when):
            return parameter
        around = {**self._context(parent, done), **self._context(parameter, done)}
        if any(
            name in around and around[name] not in values
            for name, values in ((self._key(n, done), v) for n, v in parent.when)
        ):
            return parameter  # they never apply together
        fits = []
        for choice in parent.choices:
            wrong = [
                self._problems_with(
                    {**around, parent.key: choice, parameter.key: probe}, parameter.key
                )
                for probe in parameter.probes
            ]
            if not all(wrong):
                fits.append(choice)
        if not fits:
            return parameter
        own = {**around, **self._context(parameter, done)}
        own.pop(parent.key, None)
        needed = any(
            self._problems_with({**own, parameter.key: probe}, parameter.key)
            for probe in parameter.probes
        )
        # It exists whatever the parent is, the recipe's own choice included
        if len(fits) == len(parent.choices) and not needed:
            return parameter
        return replace(parameter, when=(*parameter.when, (parent.name, tuple(fits))))

    @staticmethod
    def _key(name: str, known: list[Parameter]) -> str:
        return next(p.key for p in known if p.name == name)

    def _typed(self, parameter: Parameter, done: list[Parameter]) -> Parameter:
        """Numbers of a setting that counts are whole."""
        if parameter.kind == "in":
            return parameter
        texts = [f"{key}={value}" for key, value in self._context(parameter, done).items()]
        if self._refusals(texts):
            return parameter
        chosen = config.override(self.base, texts, self.complete)
        element = _element(config.annotation(chosen, parameter.key))
        if element not in (int, float, None):
            self.problems.append(
                f"{parameter.name}: expected in:A,B,C, since its values are no numbers. Received:"
                f" {parameter}."
            )
        if element is int and parameter.kind != "int":
            if parameter.low != int(parameter.low) or parameter.high != int(parameter.high):
                self.problems.append(
                    f"{parameter.name}: expected whole numbers as limits. Received: {parameter}."
                )
            return replace(parameter, whole=True)
        return parameter

    def _check_alone(self, parameter: Parameter, done: list[Parameter]) -> None:
        around, probes = self._context(parameter, done), parameter.probes
        if (
            parameter.whole
            and parameter.kind != "in"
            and parameter.high - parameter.low <= MOST_WHOLE_NUMBERS
        ):
            # Some may not divide what they must
            probes = tuple(map(str, range(int(parameter.low), int(parameter.high) + 1)))
        for probe in probes:
            for line in self._problems_with({**around, parameter.key: probe}, parameter.key):
                self.problems.append(line.replace(parameter.key, parameter.name, 1))

    def _check_pairs(self, done: list[Parameter]) -> None:
        """Values that are fine alone may not go together, such as a batch size and its number of
        micro-batches.
        """
        for first, second in itertools.combinations(done, 2):
            if first.key == second.key:
                continue
            for one, other in itertools.product(first.probes, second.probes):
                around = {**self._context(first, done), **self._context(second, done)}
                texts = {**around, first.key: one, second.key: other}
                if any(
                    texts[self._key(n, done)] not in v for p in (first, second) for n, v in p.when
                ):
                    continue  # never drawn together
                for key in (first.key, second.key):
                    said = self._problems_with(texts, key)
                    self.problems += [
                        f"{line} ({first.name}={one} with {second.name}={other})" for line in said
                    ]

    def _check_whole(self, space: Space) -> None:
        """Each value must be good in some whole trial.

        One that the other settings rule out would fail every time.
        """
        dice = random.Random(0)
        for parameter in space.parameters:
            for probe in parameter.probes:
                said: list[str] = []
                for _ in range(MOST_DRAWS):
                    said = self._refusals([*space.fixed, *_drawn(space, parameter, probe, dice)])
                    if not said:
                        break
                self.problems += [
                    f"{line} ({parameter.name}={probe} with any of the others)" for line in said
                ]


def _drawn(space: Space, parameter: Parameter, probe: str, dice: random.Random) -> list[str]:
    """The settings of a whole trial in which a parameter has the value `probe`."""
    allowed, open_ = {parameter.name: (probe,)}, [parameter]
    while open_:
        for name, values in open_.pop().when:
            allowed[name] = values
            open_.append(next(p for p in space.parameters if p.name == name))
    drawn: dict[str, str] = {}
    for each in space.parameters:
        if all(drawn.get(name) in values for name, values in each.when):
            drawn[each.name] = dice.choice(allowed.get(each.name, each.probes))
    return [f"{each.key}={drawn[each.name]}" for each in space.parameters if each.name in drawn]


def _parents_first(parameters: list[Parameter]) -> list[Parameter]:
    ordered: list[Parameter] = []
    while len(ordered) < len(parameters):
        known = {p.name for p in ordered}
        ordered += [
            p
            for p in parameters
            if p.name not in known and all(name in known for name, _ in p.when)
        ]
    return ordered


def _element(kind: Any) -> type | None:
    """The type of one value: of float | None, float; of tuple[int, ...], int."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return _element(next(k for k in typing.get_args(kind) if k is not type(None)))
    return _element(typing.get_args(kind)[0]) if typing.get_origin(kind) is tuple else kind
