"""The import law, read from the source; and that nothing heavy is imported before it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tfbig

ROOT = Path(tfbig.__file__).parent
ALLOWED = {
    "core": set(),
    "nn": {"core"},
    "prep": {"core"},
    "models": {"nn", "core"},
    "data": {"prep", "core"},
    "decoding": {"nn", "prep", "core"},
    "media": {"prep", "core"},
    "metrics": {"core"},
    "adapt": {"nn", "core"},
    "tasks": {"models", "decoding", "media", "metrics", "data", "nn", "prep", "core"},
    "recipes": {"tasks", "models", "data", "adapt", "core"},
    "engine": {"core"},
    "tuning": {"engine", "core"},
    "deploy": {"core"},
    "report": {"core"},
}
# Modules that a folder may import of floors otherwise closed to it: the server chooses tokens as a
# task does, by mathematics that needs no TensorFlow there
NARROW = {"deploy/server": {"tfbig.decoding.sampling", "tfbig.decoding.window"}}
# Each file can be deleted without harm to the others
ALONE = ("models", "data", "media", "tasks", "recipes", "adapt")
FILES = sorted(path for folder in ALLOWED for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> list[str]:
    """Every module named in an import, as a dotted name.

    Those for type checkers alone are left out.
    """
    names, tree = [], ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_import_law(path):
    folder = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        package, *rest = name.split(".")
        if package == "tfbig":
            if not rest or rest[0] not in ALLOWED:
                assert rest in ([], ["__version__"]), f"{path} imports {name}"
                continue
            narrow = NARROW.get(path.parent.relative_to(ROOT).as_posix(), set())
            allowed = rest[0] == folder or rest[0] in ALLOWED[folder]
            assert allowed or name.rpartition(".")[0] in narrow, (
                f"{path}: {folder} may not import {name}"
            )
            if folder in ALONE and rest[0] == folder and len(rest) > 1:
                assert rest[1].startswith("_"), f"{path} imports its sibling {name}"
        elif folder == "core" and path.name != "lazy.py":
            assert package in sys.stdlib_module_names, f"{path}: core imports {name}"


@pytest.mark.parametrize(
    "path", [f for f in FILES if f.parent.name == "core"], ids=lambda f: f.name
)
def test_core_knows_no_other_floor_not_even_as_a_type(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("tfbig."):
            assert node.module.startswith("tfbig.core"), f"{path} imports {node.module}"


def test_nothing_heavy_is_imported_early():
    code = """
import sys, pathlib, importlib
import tfbig
import tfbig.train, tfbig.evaluate, tfbig.predict, tfbig.tune, tfbig.export, tfbig.serve
import tfbig.launch, tfbig.plan, tfbig.__main__
ALONE = {f"deploy/{name}" for name in ("worker", "stepping", "arrays")}
floors = "models data decoding media metrics adapt tasks recipes"
floors += " engine tuning deploy report nn prep"
for folder in floors.split():
    for path in pathlib.Path(tfbig.__file__).parent.joinpath(folder).glob("*.py"):
        # Run as programs of their own, with nothing of this package
        if f"{folder}/{path.stem}" not in ALONE:
            importlib.import_module(f"tfbig.{folder}.{path.stem}")
for path in pathlib.Path(tfbig.__file__).parent.joinpath("deploy/server").glob("*.py"):
    importlib.import_module(f"tfbig.deploy.server.{path.stem}")
heavy = {"tensorflow", "keras", "numpy", "matplotlib", "jinja2", "rich", "PIL",
         "tensorflow_datasets", "keras_tuner", "sklearn", "scipy", "soundfile", "av", "pycocotools",
         "sacrebleu", "jiwer", "gymnasium", "ale_py"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_server_chooses_tokens_without_tensorflow():
    code = """
import sys
import numpy
from tfbig.decoding.sampling import choose
from tfbig.decoding.window import num_dropped
choose(numpy.ones((2, 5), "float32"), 1, 2, temperature=0.8, top_k=3, top_p=0.9)
assert num_dropped(9, 8) == 5 and "tensorflow" not in sys.modules and "keras" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
