"""How names are spelt: which mean the same, and which mean nothing."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Iterable, Sequence

# How programs write cells that hold nothing
MISSING = frozenset({"nan", "NaN", "NAN", "NaT", "<NA>", "#N/A", "N/A", "n/a", "NULL", "null"})
NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?")
SHOWN = 3  # names in a line


def name_of(text: str) -> str:
    """A text as the name of a class: accents in Unicode's composed form, no blanks around it."""
    return unicodedata.normalize("NFC", text).strip()


def doubtful(names: Sequence[str]) -> list[str]:
    """Lines about classes that may be meant as one, or that are none.

    Such as Cat and cat, 1 and 01, "very good" with two kinds of blanks, and nan.
    """
    alike = collections.defaultdict(list)
    for name in names:
        alike[_key(name)].append(name)
    same = [" and ".join(map(repr, own)) for own in alike.values() if len(own) > 1]
    none = [name for name in names if name.strip() in {"", *MISSING}]
    lines = [f"classes that are spelt alike, and yet are several: {_some(same)}"] if same else []
    if none:
        lines.append(
            f"classes that are called as programs write cells that hold nothing: {_some(none)}"
        )
    return lines


def _key(name: str) -> str | float:
    """The same for names that differ by capitals, blanks, invisible marks or zeros alone."""
    text = unicodedata.normalize("NFKC", name)
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    words = " ".join(visible.casefold().split())
    return float(words) if NUMBER.fullmatch(words) else words


def _some(words: Iterable[str]) -> str:
    words = list(words)
    more = f" and {len(words) - SHOWN:,} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
