"""The registry: a file's name in tasks/, models/, data/ or adapt/ is the component's name.

Nothing is listed by hand.

Listing reads docstrings with `ast`, so it imports nothing. Any other name is a module of the user's
own.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import os
import shlex
import threading
from pathlib import Path

from tfbig.core import contracts, dataset, model, words
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment

_PARSING = threading.Lock()
ROOT = Path(__file__).parent.parent
BASES = {
    "tasks": contracts.Task,
    "models": model.Model,
    "data": dataset.Dataset,
    "adapt": model.Adapter,
}
KEYS = {"tasks": "task", "models": "model", "data": "data", "adapt": "adapt"}


def closest(word: str, known, cutoff: float = 0.5) -> str | None:
    """The known name that a word means elsewhere or is a misspelling of; None if there is none."""
    names = [str(name) for name in known]
    elsewhere = [target for target in words.meant(word, words.VALUES) if target in names]
    longer = [name for name in names if len(word) > 2 and name.startswith(word.lower())]
    alike = elsewhere or longer or difflib.get_close_matches(word.lower(), names, 1, cutoff)
    return alike[0] if alike else None


def nearest(word: str, known) -> str:
    """' Did you mean X?' for a mistyped word, or nothing."""
    name = closest(word, known)
    return f" Did you mean {name}?" if name else ""


def _files(folder: str) -> dict[str, Path]:
    return {
        path.stem: path
        for path in sorted((ROOT / folder).glob("*.py"))
        if not path.stem.startswith("_")
    }


def opening(docstring: str | None) -> str:
    """A docstring's first paragraph in one line, without its full stop."""
    return " ".join((docstring or "").partition("\n\n")[0].split()).rstrip(".")


def _opening(node) -> str:
    return opening(ast.get_docstring(node))


@functools.cache
def _tree(path: Path) -> ast.Module:
    """A file's syntax tree. One at a time: Python 3.11's parser is not safe in several threads."""
    with _PARSING:
        return ast.parse(path.read_text("utf-8"))


def describe(kind: str) -> dict[str, str]:
    """Names of the components of a kind, "tasks", "models", "data" or "adapt", and what each is."""
    return {name: _opening(_tree(path)) for name, path in _files(kind).items()}


def doors() -> dict[str, str]:
    """Names of the commands, the top-level modules that define `main`, and what each does."""
    trees = {name: _tree(path) for name, path in _files(".").items()}

    def is_door(tree):
        return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)

    return {name: _opening(tree) for name, tree in trees.items() if is_door(tree)}


def recipes() -> dict[str, tuple[str, str]]:
    """Recipes: name -> (module, what it is).

    A recipe is a public function of a file in recipes/.
    """
    functions: dict[str, tuple[str, str]] = {}
    for module, path in _files("recipes").items():
        for node in _tree(path).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert node.name not in functions, f"two recipes are named {node.name}"
                functions[node.name] = (f"tfbig.recipes.{module}", _opening(node))
    return functions


def recipe(name: str | Experiment) -> Experiment:
    """The experiment a recipe describes.

    "package.module:function" names one of the user's own. An experiment is returned as it is.
    """
    experiment = name if isinstance(name, Experiment) else _recipe_function(name)()
    if not isinstance(experiment, Experiment):
        raise UserError(
            f"recipe: expected {name} to return an Experiment. Received: {experiment!r}."
        )
    return experiment


def search_space(name: str) -> tuple[str, ...]:
    """The search space a recipe carries.

    Its function's attribute `search`, settings such as "model.dropout=lin:0..0.5".
    """
    return tuple(getattr(_recipe_function(name), "search", ()))


def _recipe_function(name: str):
    if not isinstance(name, str):
        raise UserError(f"recipe: expected a recipe's name or an Experiment. Received: {name!r}.")
    if ":" in name:
        module, _, function = name.partition(":")
        recipe_function = getattr(_own_module("recipe", module), function, None)
        if not callable(recipe_function):
            raise UserError(f"recipe: module {module} has no function {function!r}.")
        return recipe_function
    known = recipes()
    if name not in known:
        if description := what_it_is(name):
            raise UserError(f"recipe: expected a recipe's name. Received: {name}, {description}")
        raise UserError(
            f"recipe: expected one of {', '.join(known)}. Received: {name!r}.{nearest(name, known)}"
            " `python -m tfbig` lists them."
        )
    return getattr(importlib.import_module(known[name][0]), name)


def what_it_is(name: str) -> str:
    """What a word that is no recipe is instead, and how that is used; empty if unknown."""
    for file, noun, command in (("config.json", "run", "train"), ("search.json", "search", "tune")):
        if os.path.isfile(os.path.join(name, file)):
            again = f"python -m tfbig.{command} --resume {shlex.quote(name)}"
            return f"which is a {noun}. Go on with it by {again}"
    if name.endswith(".py"):
        return f"which is a file. A recipe of your own is named {Path(name).stem}:FUNCTION."
    if "/" in name:
        return (
            "which is no run either. A run goes on with --resume DIR; `python -m tfbig` lists the"
            " recipes."
        )
    return ""


def _own_module(key: str, name: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{key}: no module {name!r} can be imported ({error}). Is it on PYTHONPATH?"
        ) from error


def component(kind: str, name: str, likely: list[str] | None = None) -> type:
    """The class of a component, the one its file defines.

    `likely` are the names to suggest if there is none of this name.
    """
    known = _files(kind)
    if name in known:
        module = importlib.import_module(f"tfbig.{kind}.{name}")
    elif "." in name or _is_module(name):
        module = _own_module(KEYS[kind], name)
    else:
        expected = f"{KEYS[kind]}: expected one of {', '.join(known)}, or a module of your own"
        meant = likely and nearest(name, likely) or nearest(name, known)
        raise UserError(f"{expected}. Received: {name!r}.{meant}")

    def is_component(value):
        return (
            isinstance(value, type)
            and issubclass(value, BASES[kind])
            and value.__module__ == module.__name__
        )

    classes = [value for value in vars(module).values() if is_component(value)]
    if len(classes) != 1:
        raise UserError(
            f"{KEYS[kind]}: expected {module.__name__} to define one {BASES[kind].__name__}. Found:"
            f" {len(classes)}."
        )
    return classes[0]


def _is_module(name: str) -> bool:
    return name.isidentifier() and importlib.util.find_spec(name) is not None


def name_of(value) -> str:
    """The name under which a component is found again; "none" where there is none."""
    if value is None:
        return "none"
    package, _, stem = type(value).__module__.rpartition(".")
    return stem if package.startswith("tfbig.") else type(value).__module__
