"""All components that a suite of conformance is run over: the package's, and the toys that stand
beside the tests, each found by its file's name.
"""

import importlib
from pathlib import Path

from tfbig.core import registry

# Tasks of the package prove by now what these did; models and exports are still tried with them
SURPASSED = {"toy_boxes", "toy_translation"}
TOYS = [path.stem for path in sorted(Path(__file__).parent.glob("toy_*.py"))]


def _defines(module: str, base: type) -> bool:
    return any(
        isinstance(value, type) and issubclass(value, base) and value.__module__ == module
        for value in vars(importlib.import_module(module)).values()
    )


def names(kind: str) -> list[str]:
    """Names of the components of a kind: "tasks", "models" or "data"."""
    toys = [module for module in TOYS if _defines(module, registry.BASES[kind])]
    return [*registry.describe(kind), *toys]


def classes(kind: str) -> list[type]:
    """Their classes."""
    return [registry.component(kind, name) for name in names(kind)]
