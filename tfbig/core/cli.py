"""What the commands share: arguments, exit codes, `--json`, and modules that can be called."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path

from tfbig.core import config, files, knobs, registry, suggestions
from tfbig.core.errors import LeftOut, PartlyRefused, RunFailure, UserError
from tfbig.core.interrupt import raise_signals
from tfbig.core.registry import recipes
from tfbig.core.run import Run

MODULE = "python -m tfbig"


def spoken(text: str) -> str:
    """A text for the terminal, its commands written as this program was called.

    Texts are written for `python -m tfbig.train`; the same is `tfbig train` and `python -m tfbig
    train`.
    """
    program = Path(sys.argv[0])
    if program.stem == "tfbig":
        return text.replace(f"{MODULE}.", "tfbig ").replace(MODULE, "tfbig")
    if program.name == "__main__.py" and program.parent.name == "tfbig":
        return text.replace(f"{MODULE}.", f"{MODULE} ")
    return text


class Parser(argparse.ArgumentParser):
    """Arguments of a command; a mistake raises UserError."""

    def __init__(self, name: str, doc: str, examples: str):
        super().__init__(
            prog=spoken(f"{MODULE}.{name}" if name else MODULE),
            description=doc,
            epilog=spoken(f"examples:\n{examples}"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--json",
            action="store_true",
            help="one JSON object on stdout, everything else on stderr",
        )

    def error(self, message: str):
        raise UserError(f"{message}. See {self.prog} --help.")

    def parse_args(self, arguments=None, namespace=None):
        parsed, unknown = self.parse_known_args(arguments, namespace)
        if hasattr(parsed, "settings"):  # those that stand behind an option
            parsed.settings += [word for word in unknown if not word.startswith("-")]
            unknown = [word for word in unknown if word.startswith("-")]
        if unknown:
            words = sys.argv[1:] if arguments is None else arguments
            raise UserError(f"{self._unknown(unknown[0], words, parsed)} See {self.prog} --help.")
        return parsed

    def _unknown(self, word: str, words: list[str], parsed: argparse.Namespace) -> str:
        """What is wrong with an unknown option, and which option or setting may be meant."""
        option, equals, value = word.partition("=")
        behind = words[words.index(word) + 1 :][:1] if word in words and not equals else []
        value = value or next(
            (text for text in behind if not text.startswith("-") and "=" not in text), ""
        )
        options = [name for action in self._actions for name in action.option_strings]
        if not word.startswith("-"):
            return f"{word}: expected no further argument."
        if not hasattr(parsed, "settings"):
            return f"{option}: {suggestions.unknown_option(option, value, options)}"
        base = registry.recipe(
            parsed.recipe if parsed.recipe in recipes() else next(iter(recipes()))
        )
        known = config.flatten(base)
        return f"{option}: {suggestions.unknown_option(option, value, options, known, base)}"


class RecipeParser(Parser):
    """Arguments of a command that starts from a recipe or resumes.

    RECIPE key=value ..., or --resume DIR key=value ...

    What `parse_args` returns has `recipe`, `settings`, `run` (from run=DIR), `resume` and `print`;
    of recipe and resume, one is None.
    """

    def __init__(self, name: str, doc: str, examples: str, made: str, settings: str):
        """A parser.

        Args:
            name, doc, examples: as for any command.
            made: what the command makes and resumes, such as "run".
            settings: help for key=value.
        """
        super().__init__(name, doc, examples)
        self.made = made
        self.add_argument("recipe", nargs="?", help="a recipe's name")
        self.add_argument(
            "settings", nargs="*", metavar="key=value", help=f"{settings}; run=DIR names the {made}"
        )
        self.add_argument("--resume", metavar="DIR", help=f"continue a {made}")
        self.add_argument("--print", action="store_true", help="show every setting and stop")

    def parse_args(self, arguments=None, namespace=None):
        parsed = super().parse_args(arguments, namespace)
        words = list(parsed.settings)
        if parsed.recipe and "=" in parsed.recipe:
            words.insert(0, parsed.recipe)
            parsed.recipe = None
        if parsed.resume and parsed.recipe:
            raise UserError(
                f"expected --resume DIR or a recipe, not both. Received: {parsed.recipe!r} and"
                f" --resume {parsed.resume}."
            )
        if not parsed.resume and not parsed.recipe:
            raise UserError(
                f"expected a recipe: one of {', '.join(recipes())}. `{self.prog} --help` shows"
                " examples."
            )
        runs = [text[4:] for text in words if text.startswith("run=")]
        if len(runs) > 1 or (runs and parsed.resume):
            raise UserError("run: expected once at most, and not with --resume.")
        parsed.run = runs[0] if runs else None
        parsed.settings = [text for text in words if not text.startswith("run=")]
        return parsed


def add_knobs(parser: Parser, arguments: list[str], kind: Callable) -> type | None:
    """Adds the knobs of a component that depends on a run as options.

    Only if a word of the command line is a run's directory.

    Args:
        parser: gets the options.
        arguments: the command line's words.
        kind: run -> the component's class.

    Returns:
        The class.
    """
    path = next(filter(_is_run, arguments), None)
    if path is None and arguments and not arguments[0].startswith("-"):
        # Says what is wrong with it, rather than that its options are not known
        Run.open(arguments[0])
    component = kind(Run.open(path)) if path else None
    for field in dataclasses.fields(component) if component else ():
        text = f"{field.metadata['doc']} (default: {knobs.text_of(field.default)})".replace(
            "%", "%%"
        )
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", dest=field.name, help=text, metavar="VALUE"
        )
    return component


def _is_run(word: str) -> bool:
    try:
        return (Path(word) / "config.json").is_file()
    except (OSError, ValueError):  # a prompt that could be no file's name
        return False


def given_knobs(given: argparse.Namespace, kind: type) -> dict:
    """The knobs that were given, as values."""
    hints = knobs.hints(kind)
    values = {}
    for name in (field.name for field in dataclasses.fields(kind)):
        text = getattr(given, name, None)
        try:
            values |= {} if text is None else {name: knobs.parse(text, hints[name])}
        except ValueError as error:
            raise UserError(f"{name}: {error}") from error
    return values


def run(door: Callable[[list[str]], dict | None], arguments: list[str] | None) -> int:
    """Runs a command and returns its exit code.

    0: done. 1: training or evaluation failed. 2: a mistake in what the user gave. 128 + n: stopped
        by signal n.
    With --json, stdout gets one JSON object: what the command returns, or {"error", "kind"} and
    what an error carries besides.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with contextlib.suppress(AttributeError, ValueError):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    shown_before = warnings.showwarning

    said = set()

    def show(message, category, *more, **options):
        if not issubclass(category, LeftOut):
            shown_before(message, category, *more, **options)
        elif str(message) not in said:
            said.add(str(message))
            print(spoken(str(message)), file=sys.stderr)

    with (
        warnings.catch_warnings(),
        raise_signals(),
        _stdout_to_stderr() if as_json else contextlib.nullcontext(sys.stdout) as out,
    ):
        warnings.showwarning = show
        code, result = _outcome(door, arguments, as_json)
        if as_json and result is not None:
            with contextlib.suppress(BrokenPipeError):
                print(files.json_text(result), file=out, flush=True)
    return code


def _outcome(door, arguments, as_json) -> tuple[int, dict | None]:
    try:
        return 0, door(arguments)
    except (UserError, RunFailure) as error:
        lines = str(error).split("\n")
        if not error.said:
            shown = "\n".join([f"error: {lines[0]}", *(f"       {line}" for line in lines[1:])])
            print(spoken(shown), file=sys.stderr)
        carried = (
            {"predictions": error.predictions, "errors": error.errors}
            if isinstance(error, PartlyRefused)
            else {}
        )
        return error.exit_code, {"error": str(error), "kind": type(error).__name__, **carried}
    except KeyboardInterrupt as stop:
        signum = getattr(stop, "signum", signal.SIGINT)
        print("stopped", file=sys.stderr)
        return 128 + signum, {
            "error": f"stopped by {'Ctrl-C' if signum == signal.SIGINT else 'SIGTERM'}",
            "kind": "Interrupted",
        }
    except BrokenPipeError:  # the reader of our output has gone; say nothing more to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0, None
    except OSError as error:
        message = f"{error.filename or 'a file'}: {error.strerror or error}"
        print(f"error: {message}", file=sys.stderr)
        return 1, {"error": message, "kind": type(error).__name__}
    except (
        Exception
    ) as error:  # ours: the traceback helps to mend it, and --json still gets its object
        traceback.print_exc()
        return 1, {"error": str(error), "kind": type(error).__name__}


@contextlib.contextmanager
def _stdout_to_stderr():
    """Sends everything written to stdout, by native code too, to stderr; yields the real stdout."""
    sys.stdout.flush()
    real = os.fdopen(os.dup(1), "w", encoding="utf-8")
    before = sys.stdout
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield real
    finally:
        sys.stdout = before
        real.flush()
        os.dup2(real.fileno(), 1)
        real.close()


def make_callable(module: str, function: Callable) -> None:
    """Lets a command's module be called from Python too.

    `tfbig.train("mnist_mlp")` and `python -m tfbig.train mnist_mlp`.
    """

    class CallableModule(types.ModuleType):
        __doc__ = function.__doc__

        def __call__(self, *arguments, **options):
            return function(*arguments, **options)

    sys.modules[module].__class__ = CallableModule
