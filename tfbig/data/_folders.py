"""What datasets of the user's own files share: which files of a folder are meant."""

from __future__ import annotations

from pathlib import Path


def is_hidden(inside: Path | str) -> bool:
    """Whether a path inside a folder is hidden, or in something hidden: what editors, notebooks, version control and macOS put beside one's files."""
    return any(part.startswith(".") or part == "__MACOSX" for part in Path(inside).parts)
