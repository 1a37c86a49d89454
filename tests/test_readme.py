"""What the README says is there: its commands name real recipes, settings and options."""

import re
import shlex
from pathlib import Path

import tfbig
from tfbig.core import registry

README = (Path(tfbig.__file__).parent.parent / "README.md").read_text("utf-8")


def test_commands_exist():
    commands = re.findall(r"(?:python -m tfbig\.|^tfbig )(\w+) ([^\n#`]*)", README, re.MULTILINE)
    assert {door for door, _ in commands} == set(registry.doors())
    checked = 0
    for door, rest in commands:
        words = shlex.split(rest)
        if door == "train" and words[0] in registry.recipes():
            settings = [word for word in words[1:] if "=" in word and not word.startswith("run=")]
            assert tfbig.recipe(words[0], *settings).name == words[0]
            checked += 1
    assert checked >= 3


def test_every_recipe_is_in_the_table():
    assert all(f"| `{name}` |" in README for name in registry.recipes())
