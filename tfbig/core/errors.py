"""Errors that are meant for people.

Their message is the whole explanation, so the commands print no traceback.
"""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in what the user gave: a key, a value, a file. Commands exit with code 2."""

    exit_code = 2
    said = False  # whether another process has written the message to this terminal already


class Needed(str):
    """The message about a setting that must be given and is not; nothing that is there is wrong."""


class LeftOut(UserWarning):
    """What was given and is not used, which is no error; commands say it in a line."""


class NoData(UserError):
    """A dataset that is absent or damaged as a whole.

    No record of it can be read, so there is none to leave out.
    """


class PackageNeeded(UserError):
    """An optional package is missing."""


def package_needed(package: str, extra: str, what: str) -> PackageNeeded:
    """What to do where an optional package is missing."""
    return PackageNeeded(
        f"{what}: needs {package}, not installed. Run pip install 'tfbig[{extra}]'."
    )


class PartlyRefused(UserError):
    """Some of the inputs could not be used; what the others gave is not lost.

    Attributes:
        predictions: what the others gave.
        errors: [{"input", "error"}], one for each that was refused.
    """

    def __init__(self, message: str, predictions: list[dict], errors: list[dict]):
        super().__init__(message)
        self.predictions, self.errors = predictions, errors


class RunFailure(RuntimeError):
    """Training or evaluation could not go on.

    A loss that is not finite, a full disk. Commands exit with code 1.
    """

    exit_code = 1
    said = False


class DiskFull(RunFailure):
    """Something could not be written for want of space; what was saved before is intact."""


class NonFinite(RunFailure):
    """The loss or a weight became NaN or infinite."""


class Terminated(KeyboardInterrupt):
    """SIGTERM where nothing watches for it.

    As with Ctrl-C, what is half-made is taken back on the way out.
    """

    signum = 15


class Interrupted(RunFailure):
    """A signal asked the run to stop; everything up to `step` is saved.

    Attributes:
        signum: the signal's number (2 for Ctrl-C, 15 for SIGTERM).
        step: the optimiser step that was saved.
    """

    def __init__(self, signum: int, step: int, message: str = ""):
        super().__init__(message or f"stopped by signal {signum} after step {step}")
        self.signum = signum
        self.step = step
        self.exit_code = 128 + signum
