"""Whether a search space holds: each value is validated as `train` would, before a trial starts.

On which choices a setting depends is found the same way, not from a list.
"""

from __future__ import annotations

import itertools
import random
import types
import typing
from dataclasses import replace
from typing import Any

from tfbig.core import config, registry
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.tuning.parameter import Parameter

MOST_DRAWS = 20  # whole trials that are tried for each value
MOST_WHOLE_NUMBERS = 64  # up to which all are validated; of more, only the limits


def raise_problems(problems: list[str]) -> None:
    """Raises them as one error, each once, if there are any."""
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))


def refusals(base: Experiment, settings: list[str], complete: bool = True) -> list[str]:
    """The problems of settings on top of a recipe's experiment; none if they are valid."""
    try:
        config.override(base, settings, complete)
    except UserError as error:
        return str(error).split("\n")
    return []


class Checker:
    """A checker of parameters: the choices each depends on, its type, and whether values are valid.

    Values are tried alone and in pairs.
    """

    def __init__(
        self, base: Experiment, fixed: tuple[str, ...], parameters: list[Parameter], complete: bool
    ):
        self.base, self.fixed, self.parameters, self.complete = base, fixed, parameters, complete
        self.problems: list[str] = []

    def checked(self) -> tuple[Parameter, ...]:
        """The parameters, each with its conditions and type, those that others depend on first.

        Raises:
            UserError: with a line for each value that is refused.
        """
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
        raise_problems(self.problems)
        self._check_pairs(done)
        raise_problems(self.problems)
        ordered = _parents_first(done)
        self._check_whole(ordered)
        raise_problems(self.problems)
        return tuple(ordered)

    def _context(self, parameter: Parameter, known: list[Parameter]) -> dict[str, str]:
        """Settings under which a parameter applies."""
        texts: dict[str, str] = {}
        for name, values in parameter.when:
            parent = next(p for p in known if p.name == name)
            texts.update({**self._context(parent, known), parent.key: values[0]})
        return texts

    def _refusals(self, settings: list[str]) -> list[str]:
        return refusals(self.base, settings, self.complete)

    def _problems_with(self, texts: dict[str, str], key: str) -> list[str]:
        """The problems of one setting among others."""
        fixed = [text for text in self.fixed if text.partition("=")[0] not in texts]
        return [
            line
            for line in self._refusals([*fixed, *(f"{k}={v}" for k, v in texts.items())])
            if line.startswith(f"{key}:")
        ]

    def _conditioned(
        self, parameter: Parameter, parent: Parameter, done: list[Parameter]
    ) -> Parameter:
        """The parameter, tied to those choices of the parent under which it exists.

        If it exists under all of them, it is not tied.
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
        """The parameter, restricted to whole numbers if its setting is one."""
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
        around = self._context(parameter, done)
        probes = parameter.probes
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
        """Checks that values that are fine alone also go together.

        Such as a batch size and its number of micro-batches.
        """
        for first, second in itertools.combinations(done, 2):
            if first.key == second.key:
                continue
            for value, other in itertools.product(first.probes, second.probes):
                around = {**self._context(first, done), **self._context(second, done)}
                texts = {**around, first.key: value, second.key: other}
                if any(
                    texts[self._key(n, done)] not in v for p in (first, second) for n, v in p.when
                ):
                    continue  # never drawn together
                for key in (first.key, second.key):
                    self.problems += [
                        f"{line} ({first.name}={value} with {second.name}={other})"
                        for line in self._problems_with(texts, key)
                    ]

    def _check_whole(self, parameters: list[Parameter]) -> None:
        """Each value must be good in some whole trial.

        One that the other settings rule out would fail every time.
        """
        dice = random.Random(0)
        for parameter in parameters:
            for probe in parameter.probes:
                lines: list[str] = []
                for _ in range(MOST_DRAWS):
                    trial = _drawn(parameters, parameter, probe, dice)
                    lines = self._refusals([*self.fixed, *trial])
                    if not lines:
                        break
                self.problems += [
                    f"{line} ({parameter.name}={probe} with any of the others)" for line in lines
                ]


def _drawn(
    parameters: list[Parameter], parameter: Parameter, probe: str, dice: random.Random
) -> list[str]:
    """The settings of a whole trial in which a parameter has the value `probe`."""
    allowed = {parameter.name: (probe,)}
    open_ = [parameter]
    while open_:
        for name, values in open_.pop().when:
            allowed[name] = values
            open_.append(next(p for p in parameters if p.name == name))
    drawn: dict[str, str] = {}
    for other in parameters:
        if all(drawn.get(name) in values for name, values in other.when):
            drawn[other.name] = dice.choice(allowed.get(other.name, other.probes))
    return [f"{other.key}={drawn[other.name]}" for other in parameters if other.name in drawn]


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
