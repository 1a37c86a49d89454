"""The map: every command, recipe, task, model and dataset, one line each."""

from __future__ import annotations

import sys

import tfbig
from tfbig.core import cli, registry
from tfbig.core.errors import UserError

EXAMPLES = """  python -m tfbig                     # this map
  python -m tfbig.train mnist_mlp     # train, evaluate and report
  python -m tfbig.train --help        # each command explains itself"""


def door(arguments: list[str]) -> dict:
    parser = cli.Parser("", __doc__, EXAMPLES)
    parser.add_argument("--version", action="store_true", help="print the version only")
    parser.add_argument("word", nargs="?", help=cli.argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    commands = registry.doors()
    if given.word:
        close = registry.nearest(given.word, [*commands, *registry.recipes()])
        raise UserError(f"expected no argument. Received: {given.word!r}.{close} Commands are run as python -m tfbig.COMMAND.")
    if given.version:
        print(tfbig.__version__)
        return {"version": tfbig.__version__}
    parts = {
        "commands": {f"python -m tfbig.{name}": line for name, line in commands.items()},
        "recipes": {name: line for name, (_, line) in registry.recipes().items()},
        **{kind: registry.describe(kind) for kind in ("tasks", "models", "data")},
    }
    if not given.json:
        width = max(len(name) for part in parts.values() for name in part)
        for title, part in parts.items():
            print(title, *(f"  {name:<{width}}  {line}" for name, line in part.items()), sep="\n")
    return {"version": tfbig.__version__, **parts}


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
