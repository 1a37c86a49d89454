"""The map: every command, recipe, task, model and dataset, one line each.

And the way to the commands.
"""

from __future__ import annotations

import importlib
import shlex
import sys

import tfbig
from tfbig.core import cli, registry, words
from tfbig.core.errors import UserError

EXAMPLES = """  python -m tfbig                     # this map
  python -m tfbig.train mnist_mlp     # train, evaluate and report
  python -m tfbig.train --help        # each command explains itself"""


def door(arguments: list[str]) -> dict:
    parser = cli.Parser("", __doc__, EXAMPLES)
    parser.add_argument("--version", action="store_true", help="print the version only")
    listed = f"{', '.join(registry.doors())}; COMMAND --help explains it"
    parser.add_argument("command", nargs="*", metavar="COMMAND", help=listed)
    if arguments and not arguments[0].startswith("-"):
        raise UserError(_no_command(arguments[0], arguments[1:]))
    parsed = parser.parse_args(arguments)
    if parsed.command:
        raise UserError(f"expected the command first. Received: {shlex.join(arguments)}.")
    if parsed.version:
        print(tfbig.__version__)
        return {"version": tfbig.__version__}
    commands = registry.doors()
    kinds = {
        "recipes": {name: line for name, (_, line) in registry.recipes().items()},
        **{kind: registry.describe(kind) for kind in registry.KEYS},
    }
    if not parsed.json:
        title = "commands, run as tfbig COMMAND or python -m tfbig COMMAND"
        print(_map({title: commands, **kinds}))
    modules = {f"python -m tfbig.{name}": line for name, line in commands.items()}
    return {"version": tfbig.__version__, "commands": modules, **kinds}


def _map(sections: dict[str, dict[str, str]]) -> str:
    width = max(len(name) for entries in sections.values() for name in entries)
    lines = []
    for title, entries in sections.items():
        lines += [title, *(f"  {name:<{width}}  {line}" for name, line in entries.items())]
    return "\n".join(lines)


def _no_command(word: str, rest: list[str]) -> str:
    """The message about a first word that is no command."""
    commands = list(registry.doors())
    message = f"{word}: no such command."
    if word in registry.recipes():
        return f"{message} It is a recipe: python -m tfbig.train {shlex.join([word, *rest])}"
    if description := registry.what_it_is(word):
        return f"expected a command. Received: {word}, {description}"
    if word in ("help", "list", "ls"):
        named = [other for other in rest if other in commands]
        return f"{message} " + (
            f"python -m tfbig.{named[0]} --help explains it."
            if named
            else "python -m tfbig lists all."
        )
    meant = words.meant(word, words.COMMANDS)
    name = meant[0] if meant else registry.closest(word, commands)
    expected = f" Did you mean {name}?" if name else f" Expected one of {', '.join(commands)}."
    return f"{message}{expected} `python -m tfbig` lists all."


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that the first word names, as `tfbig train` does, or else shows the map."""
    typed = sys.argv[1:] if arguments is None else arguments
    if typed and typed[0] in registry.doors():
        return importlib.import_module(f"tfbig.{typed[0]}").main(typed[1:])
    return cli.run(door, typed)


if __name__ == "__main__":
    sys.exit(main())
