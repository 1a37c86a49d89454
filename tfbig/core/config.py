"""Configuration: overriding, validating, showing and saving an experiment.

Every problem is reported at once.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from tfbig.core import knobs, registry, suggestions
from tfbig.core.errors import Needed, UserError
from tfbig.core.experiment import Experiment

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
            changes.setdefault(owner, {})[name] = knobs.parse(
                text, _annotation(experiment, owner, name)
            )
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
    return knobs.hints(type(getattr(experiment, owner) if owner else experiment))[name]


def annotation(experiment: Experiment, key: str) -> Any:
    """The annotated type of a setting; None if there is no such setting."""
    owner, name, field = _find(experiment, key)
    return None if field is None else _annotation(experiment, owner, name)


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
    problems = list(knobs.problems(experiment))
    for owner, component in parts.items():
        if dataclasses.is_dataclass(component):
            problems += [
                (f"{owner}.{name}", message) for name, message in knobs.problems(component)
            ]
    return problems


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
            f" ({of}: {knobs.text_of(different[key][0])})"
            if key in different and different[key][0] is not None
            else ""
        )
        mark = "*" if key in different else " "
        mark = "!" if key in needed else mark
        lines.append((f"{mark} {key}={knobs.text_of(value)}{was}", doc))
    width = min(44, max(len(setting) for setting, _ in lines))
    shown = [f"{setting:<{width}}  # {doc}" for setting, doc in lines]
    return "\n".join([*shown, *(f"! {key}: {message}" for key, message in needed.items())])
