"""What to say of a setting or an option that does not exist.

The right name, where it can be known.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

from tfbig.core import registry, words

PARTS = tuple(registry.KEYS.values())
BESIDES = ("run", "--resume")  # targets of words.SETTINGS that are no settings of an experiment
CUTOFF = 0.6  # of the likeness of two names; below it the letters say nothing


def unknown_setting(
    key: str, value: str, known: Iterable[str], experiment: Any, assigned: bool = False
) -> str:
    """Why a setting does not exist and which one may be meant, as whole sentences.

    Args:
        key, value: as they were given.
        known: the paths of the settings that there are.
        experiment: whose components are chosen, and say which others would fit; None if it has
            none.
        assigned: whether names are suggested as name=value, where they were not given so.
    """
    known = list(known)
    word = key.lower().replace("-", "_")
    owner, _, name = word.rpartition(".")
    ending = f"={value}" if assigned and value else ""
    named = [f"{path}{ending}" for path in known if path.rpartition(".")[2] == name]
    targets = words.meant(name, words.SETTINGS)
    meant = [
        _filled(target, value, ending) for target in targets if _key(target) in (*known, *BESIDES)
    ]
    elsewhere = _elsewhere(word, experiment, fitting=True)
    likely = [each for each in meant if owner and _key(each).startswith(f"{owner}.")]
    if elsewhere or named or meant:
        names = likely[:1] or named or meant[:1]
        return f"{elsewhere or 'no such setting.'}{_question(names)}"
    others = [*map(_key, targets), *(() if owner else (f"{kind}.{name}" for kind in PARTS))]
    for fitting in (True, False):
        for other in others:
            if owners := _elsewhere(other, experiment, fitting):
                return f"no such setting. {other} {owners}"
    if tune := [target for target in targets if target.startswith("tune.")]:
        return f"no such setting. Did you mean {tune[0]}, a setting of python -m tfbig.tune?"
    if reason := words.meant(name, words.UNKNOWN):
        return reason[0]
    alike = [f"{path}{ending}" for path in _alike(owner, name, known)]
    return _elsewhere(word, experiment) or f"no such setting.{_question(alike)}"


def unknown_option(
    option: str, value: str, options: list[str], known: Iterable[str] = (), experiment: Any = None
) -> str:
    """Why an option does not exist and what may be meant, as whole sentences.

    Args:
        option: such as "--epochs".
        value: what stands behind it; empty if nothing does.
        options: those that there are.
        known, experiment: as for `unknown_setting`, for commands that take key=value settings.
    """
    plain = "--" + option.lstrip("-").lower().replace("_", "-")
    close = registry.closest(plain, options, 0.75)
    other = [name for name in words.meant(option, words.OPTIONS) if name in options]
    if close or other:
        return f"no such option.{_question([close or other[0]])}"
    if not known:
        return "no such option."
    key = plain[2:].replace("-", "_")
    if key in (*known, "run"):
        return f"no such option.{_question([f'{key}={value}' if value else key])}"
    message = unknown_setting(key, value, known, experiment, assigned=True)
    return message.replace("no such setting", "no such option", 1)


def unknown_word(word: str, known: Iterable[str]) -> str:
    """What may be meant by a word that is no key=value setting; empty if that is not known."""
    parts = [key for kind, key in registry.KEYS.items() if word in registry.describe(kind)]
    targets = [_key(target) for target in words.meant(word, words.SETTINGS)]
    names = [key for key in known if word in (key, key.rpartition(".")[2])]
    names += [key for key in targets if key in known]
    if parts or names:
        return _question([f"{parts[0]}={word}" if parts else f"{names[0]}=VALUE"])
    return ""


def _question(names: list[str]) -> str:
    return f" Did you mean {' or '.join(names)}?" if names else ""


def _key(target: str) -> str:
    """The setting, or the option, that a target of words.SETTINGS begins with."""
    return target.split()[0].partition("=")[0]


def _filled(target: str, value: str, ending: str) -> str:
    """A target as it is to be typed, with the value that was given if that is a plain one."""
    key = _key(target)
    if key in PARTS and (target == key or "{value}" in target):
        kind = next(kind for kind, name in registry.KEYS.items() if name == key)
        chosen = registry.closest(value, registry.describe(kind))
        return f"{key}={chosen}" if chosen else key
    if target == key:
        return f"{key}{ending}"
    if ":" in value or value.lower() in ("false", "no", "none"):
        return key
    return target.format(value=value) if value or "{value}" not in target else key


def _alike(owner: str, name: str, known: list[str]) -> list[str]:
    """The setting whose own name is most like this one, of the same owner if possible."""
    for keys in ([key for key in known if key.rpartition(".")[0] == owner], known):
        names = {key.rpartition(".")[2]: key for key in reversed(keys)}
        close = registry.closest(name, names, CUTOFF)
        if close:
            return [names[close]]
    return []


def _elsewhere(key: str, experiment: Any, fitting: bool = False) -> str:
    """Which other components have a setting, those that fit the task if there are any.

    Empty if none has it.
    """
    owner, _, name = key.partition(".")
    kind = next((kind for kind, setting in registry.KEYS.items() if setting == owner), None)
    if kind is None or not hasattr(experiment, owner):
        return ""
    having = [other for other, (names, _) in _components(kind).items() if name in names]
    suitable = [other for other in having if other in fitting_components(kind, experiment)]
    if not having or (fitting and not suitable):
        return ""
    listed = ", ".join(suitable or having)
    chosen = registry.name_of(getattr(experiment, owner))
    return f"is a setting of {owner}={listed}; this experiment has {owner}={chosen}."


def fitting_components(kind: str, experiment: Any) -> list[str]:
    """Names of the components that fit an experiment's task; kind: "tasks", "models" or "data"."""
    task = experiment.task
    misfit = {"models": task.wanted_model, "data": task.wanted_data}.get(kind)
    components = _components(kind).items()
    return [name for name, (_, component) in components if misfit is None or not misfit(component)]


@functools.cache
def _components(kind: str) -> dict[str, tuple[frozenset[str], type]]:
    """Every component of the package: its settings, and its class."""
    classes = {name: registry.component(kind, name) for name in registry.describe(kind)}
    return {
        name: (frozenset(field.name for field in dataclasses.fields(component)), component)
        for name, component in classes.items()
    }
