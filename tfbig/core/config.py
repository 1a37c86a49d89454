"""Configuration: overriding, validating, showing and saving an experiment.

Every problem is reported at once.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from typing import Any

from tfbig.core import registry, suggestions
from tfbig.core.errors import Needed, UserError
from tfbig.core.experiment import Experiment

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

RESUMABLE = (  # what may change in a resumed run
    *(
        f"train.{name}"
        for name in (
            "length",
            "evaluate_every",
            "save_every",
            "keep",
            "patience",
            "final_split",
            "tensorboard",
        )
    ),
    "data.path",  # to where the same data is now: the fingerprint tells other data
    "data.vocabulary_path",
    "data.on_error",
    "data.max_skipped",
    "device.strategy",
    "device.count",
)


def flatten(experiment: Experiment) -> dict[str, Any]:
    """All settings by their path: "seed", "model" (the component's name), "model.units", ..."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if not dataclasses.is_dataclass(value):
            flat[field.name] = value
            continue
        if "kind" in field.metadata:
            flat[field.name] = registry.name_of(value)
        flat.update(
            {
                f"{field.name}.{inner.name}": getattr(value, inner.name)
                for inner in dataclasses.fields(value)
            }
        )
    return flat


def override(experiment: Experiment, settings: list[str], complete: bool = True) -> Experiment:
    """The experiment with "key=value" settings applied, components first, and validated.

    Args:
        experiment: what is changed.
        settings: the changes.
        complete: whether settings that must be given have to be there; only shown, they need not.

    Raises:
        UserError: with one line for each problem.
    """
    problems, given = [], {}
    for text in settings:
        if not isinstance(text, str):
            problems.append(f'expected settings as text, such as "seed=1". Received: {text!r}.')
            continue
        key, equals, value = text.partition("=")
        if not equals or not key:
            meant = suggestions.unknown_word(text, flatten(experiment))
            problems.append(f"expected key=value. Received: {text!r}.{meant}")
        elif key in given:
            problems.append(f"{key}: given twice, as {given[key]!r} and {value!r}.")
        else:
            given[key] = value
    for field in dataclasses.fields(experiment):
        if "kind" in field.metadata and field.name in given:
            try:
                component = _chosen(experiment, field, given.pop(field.name))
                experiment = dataclasses.replace(experiment, **{field.name: component})
            except UserError as error:
                problems.append(str(error))
    changes: dict[str, dict[str, Any]] = {}
    for key, text in given.items():
        owner, name, field = _find(experiment, key)
        if field is None:
            message = suggestions.unknown_setting(key, text, flatten(experiment), experiment)
            problems.append(f"{key}: {message}")
            continue
        try:
            changes.setdefault(owner, {})[name] = parse(text, _annotation(experiment, owner, name))
        except ValueError as error:
            problems.append(f"{key}: {error}")
    for owner, values in changes.items():
        if owner:
            values = {
                owner: (
                    dataclasses.replace(getattr(experiment, owner), **values).settled(
                        frozenset(values)
                    )
                )
            }
        experiment = dataclasses.replace(experiment, **values)
    _raise(problems + find_problems(experiment, complete))
    return experiment


def _chosen(experiment: Experiment, field: dataclasses.Field, name: str):
    """The component of this name with its defaults, or the experiment's own if it has the name."""
    if name.lower() == "none" and _may_lack(field):
        return None
    kind = field.metadata["kind"]
    own = getattr(experiment, field.name)
    chosen = registry.component(kind, name, suggestions.fitting_components(kind, experiment))
    return own if chosen is type(own) else chosen()


def _may_lack(field: dataclasses.Field) -> bool:
    """Whether an experiment can do without this component."""
    return field.default is None


def validate(experiment: Experiment) -> Experiment:
    """The experiment itself, if all its values are valid."""
    _raise(find_problems(experiment))
    return experiment


def _raise(problems: list[str]) -> None:
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))


def _find(experiment: Experiment, key: str):
    owner, _, name = key.rpartition(".")
    parts = {field.name for field in dataclasses.fields(experiment)}
    holder = experiment
    if owner:
        holder = getattr(experiment, owner) if owner in parts else None
    if not dataclasses.is_dataclass(holder):
        return owner, name, None
    fields = {
        field.name: field for field in dataclasses.fields(holder) if "kind" not in field.metadata
    }
    field = fields.get(name)
    return (
        owner,
        name,
        None if field is None or dataclasses.is_dataclass(getattr(holder, name)) else field,
    )


def _annotation(experiment: Experiment, owner: str, name: str):
    return hints(type(getattr(experiment, owner) if owner else experiment))[name]


def annotation(experiment: Experiment, key: str) -> Any:
    """The annotated type of a setting; None if there is no such setting."""
    owner, name, field = _find(experiment, key)
    return None if field is None else _annotation(experiment, owner, name)


def hints(kind: type) -> dict[str, Any]:
    """The annotated type of each knob of a component."""
    annotations: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        module = vars(__import__("sys").modules[base.__module__])
        for name, text in vars(base).get("__annotations__", {}).items():
            if name in kind.__dataclass_fields__ and "ClassVar" not in str(text):
                annotations[name] = eval(text, dict(module)) if isinstance(text, str) else text  # noqa: S307 - our own annotations
    return annotations


def parse(text: str, kind: Any) -> Any:
    """A value of an annotated type from the text of a command line.

    Raises:
        ValueError: it is none; the message says what was expected and received.
    """
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return (
            None
            if text.lower() == "none"
            else parse(text, next(k for k in typing.get_args(kind) if k is not type(None)))
        )
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(
            parse(item.strip(), inner) for item in text.strip("()[]").split(",") if item.strip()
        )
    if kind is bool:
        if text.lower() not in WORDS:
            raise ValueError(f"expected true or false. Received: {text!r}.")
        return WORDS[text.lower()]
    if kind in (int, float):
        try:
            number = float(text) if kind is float else int(text, 10)
        except ValueError:
            number = _number(text, kind)
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f"expected a finite number. Received: {text!r}.")
        return number
    return text


def _number(text: str, kind: type) -> int:
    """A whole number written as 1e3, or a clear refusal."""
    try:
        number = float(text)
        if kind is int and number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        f"expected a {'whole number' if kind is int else 'number'}. Received: {text!r}."
    ) from None


def find_problems(experiment: Experiment, complete: bool = True) -> list[str]:
    """Every wrong value: its type, its limits, its choices, and what does not go together.

    What is missing is a problem too, if the experiment is to be `complete`.
    """
    problems = _problems(experiment)
    return [
        f"{key}: {message}"
        for key, message in problems
        if complete or not isinstance(message, Needed)
    ]


def _problems(experiment: Experiment) -> list[tuple[str, str]]:
    """(path of the setting, message) of every problem."""
    parts = {
        field.name: getattr(experiment, field.name) for field in dataclasses.fields(experiment)
    }
    problems = list(part_problems(experiment))
    for owner, component in parts.items():
        if dataclasses.is_dataclass(component):
            problems += [(f"{owner}.{name}", message) for name, message in part_problems(component)]
    return problems


def component(kind: type, options: dict[str, Any]) -> Any:
    """A component with these knobs; everything wrong with them is reported at once."""
    known = {field.name for field in dataclasses.fields(kind)}
    expected = ", ".join(sorted(known)) or "none"
    strange = [
        f"{name}: no such option.{registry.nearest(name, known)} Expected one of {expected}."
        for name in options
        if name not in known
    ]
    if strange:
        raise UserError("\n".join(strange))
    chosen = kind(**options)
    problems = [f"{name}: {message}" for name, message in part_problems(chosen)]
    if problems:
        raise UserError("\n".join(problems))
    return chosen


def part_problems(component) -> list[tuple[str, str]]:
    """(knob, message) of every wrong value of one component."""
    problems = []
    annotations = hints(type(component))
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        if dataclasses.is_dataclass(value) or not (
            "doc" in field.metadata and "kind" not in field.metadata
        ):
            continue
        message = _type_problem(value, annotations[field.name]) or _limit_problem(
            value, field.metadata
        )
        if message:
            problems.append((field.name, message))
    # Cross-checks may count on each value being fine alone
    return problems or list(component.problems())


def _type_problem(value: Any, kind: Any) -> str:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        if typing.get_origin(option) is tuple:
            inner = typing.get_args(option)[0]
            if isinstance(value, tuple) and not any(_type_problem(item, inner) for item in value):
                return ""
        elif option in (None, type(None)):
            if value is None:
                return ""
        elif option is float:
            if (
                isinstance(value, (int, float))
                and not isinstance(value, bool)
                and math.isfinite(value)
            ):
                return ""
        elif isinstance(value, option) and not (option is int and isinstance(value, bool)):
            return ""
    words = {
        int: "a whole number",
        float: "a finite number",
        str: "text",
        bool: "true or false",
        type(None): "none",
    }
    expected = " or ".join(words.get(option, str(option)) for option in options)
    return f"expected {expected}. Received: {value!r}."


def _limit_problem(value: Any, limits) -> str:
    for item in value if isinstance(value, tuple) else (value,):
        if item is None:
            continue
        if limits.get("choices") and item not in limits["choices"]:
            return (
                f"expected one of {', '.join(map(str, limits['choices']))}. Received:"
                f" {item!r}.{registry.nearest(str(item), limits['choices'])}"
            )
        if limits.get("low") is not None and item < limits["low"]:
            return f"expected at least {limits['low']}. Received: {item}."
        if limits.get("above") is not None and item <= limits["above"]:
            return f"expected more than {limits['above']}. Received: {item}."
        if limits.get("high") is not None and item > limits["high"]:
            return f"expected at most {limits['high']}. Received: {item}."
    return ""


def to_json(experiment: Experiment) -> dict[str, Any]:
    """The experiment as JSON values; components carry their name."""
    result: dict[str, Any] = {}
    for key, value in flatten(experiment).items():
        owner, _, name = key.rpartition(".")
        value = list(value) if isinstance(value, tuple) else value
        if owner:
            result.setdefault(owner, {})[name] = value
        elif key in registry.KEYS.values():
            result[key] = None if value is None else {"name": value}
        else:
            result[key] = value
    return result


def from_json(saved: dict[str, Any]) -> Experiment:
    """The experiment that `to_json` wrote.

    Settings it lacks take their defaults; ones it should not have are errors.
    """
    problems, parts = [], {}
    fields = {field.name: field for field in dataclasses.fields(Experiment)}
    for key in saved:
        if key not in fields:
            problems.append(f"{key}: no such setting.{registry.nearest(key, fields)}")
    for name, field in fields.items():
        if name not in saved:
            if "kind" in field.metadata and not _may_lack(field):
                problems.append(f"{name}: missing.")
            continue
        value = saved[name]
        if "kind" in field.metadata:
            is_plain = value is None and _may_lack(field)
        else:
            is_plain = not dataclasses.is_dataclass(field.default)
        if is_plain:
            parts[name] = value
            continue
        if not isinstance(value, dict):
            problems.append(f"{name}: expected an object with its settings. Received: {value!r}.")
            continue
        value = dict(value)
        try:
            kind = (
                registry.component(field.metadata["kind"], str(value.pop("name", "")))
                if "kind" in field.metadata
                else type(field.default)
            )
        except UserError as error:
            problems.append(str(error))
            continue
        known = {inner.name for inner in dataclasses.fields(kind)}
        problems += [
            f"{name}.{key}: no such setting.{registry.nearest(key, known)}"
            for key in value
            if key not in known
        ]
        parts[name] = kind(
            **{
                key: tuple(v) if isinstance(v, list) else v
                for key, v in value.items()
                if key in known
            }
        )
    _raise(problems)
    return validate(Experiment(**parts))


def absolute(experiment: Experiment) -> Experiment:
    """The experiment with its relative paths made absolute; see `knob`.

    Only those that lead somewhere from the current folder.
    """
    parts = {
        field.name: getattr(experiment, field.name) for field in dataclasses.fields(experiment)
    }
    parts |= {
        name: dataclasses.replace(component, **_absolute_paths(component))
        for name, component in parts.items()
        if dataclasses.is_dataclass(component)
    }
    return dataclasses.replace(experiment, **{**parts, **_absolute_paths(experiment)})


def _absolute_paths(component) -> dict[str, str]:
    values = {
        field.name: getattr(component, field.name)
        for field in dataclasses.fields(component)
        if field.metadata.get("path")
    }
    paths = {
        name: os.path.join(os.getcwd(), os.path.expanduser(value))
        for name, value in values.items()
        if value
    }
    return {name: path for name, path in paths.items() if os.path.exists(path)}


def without_paths(experiment: Experiment) -> dict[str, Any]:
    """As `flatten`, without settings that name a file or folder.

    The same file may have another name elsewhere.
    """

    def is_path(field):
        return field is not None and field.metadata.get("path")

    return {
        key: value
        for key, value in flatten(experiment).items()
        if not is_path(_find(experiment, key)[2])
    }


def lasting(experiment: Experiment) -> dict[str, Any]:
    """The settings that may not change in a resumed run, by their path, as JSON values.

    Paths are not among them.
    """
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in without_paths(experiment).items()
        if key not in RESUMABLE
    }


def changed(experiment: Experiment, base: Experiment) -> dict[str, list]:
    """Settings that differ from the recipe's: path -> [recipe's value or None, value]."""
    before = flatten(base)
    after = flatten(experiment)
    return {
        key: [before.get(key), value]
        for key, value in after.items()
        if key not in before or before[key] != value
    }


def show(experiment: Experiment, base: Experiment | None = None, of: str = "recipe") -> str:
    """Every setting with its value and meaning, as `key=value` lines.

    Those that differ from `base` are marked *, those that must still be given !, with the reasons
    listed at the end. `of` is the word for `base`.
    """
    different = changed(experiment, base) if base is not None else {}
    needed = {key: text for key, text in _problems(experiment) if isinstance(text, Needed)}
    lines = []
    for key, value in flatten(experiment).items():
        owner, name, field = _find(experiment, key)
        doc = (
            field.metadata.get("doc", "")
            if field
            else Experiment.__dataclass_fields__[key].metadata["doc"]
        )
        was = (
            f" ({of}: {text_of(different[key][0])})"
            if key in different and different[key][0] is not None
            else ""
        )
        mark = "*" if key in different else " "
        mark = "!" if key in needed else mark
        lines.append((f"{mark} {key}={text_of(value)}{was}", doc))
    width = min(44, max(len(setting) for setting, _ in lines))
    shown = [f"{setting:<{width}}  # {doc}" for setting, doc in lines]
    return "\n".join([*shown, *(f"! {key}: {message}" for key, message in needed.items())])


def text_of(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(text_of, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return str(value)
