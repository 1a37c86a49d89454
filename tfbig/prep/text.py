"""Cleaning of text documents.

Decoding, Unicode normalisation, duplicates, scripts. Host code, one document at a time.
"""

from __future__ import annotations

import codecs
import functools
import hashlib
import unicodedata

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

SHINGLE = 16  # characters in a row that near-duplicates are compared by
SKETCH = 64  # hashes kept of each document
FORMS = ("none", "nfc", "nfkc")
OF_WINDOWS = (
    "Save it as UTF-8 in an editor, or convert it, from Windows for one: iconv -f WINDOWS-1252 -t"
    " UTF-8 OLD > NEW."
)
LONG_RUN = 32  # combining marks behind each other; no language writes as many
BYTE_ORDER_MARKS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
SCRIPTS = (
    "any",
    "latin",
    "greek",
    "cyrillic",
    "arabic",
    "hebrew",
    "devanagari",
    "cjk",
    "hiragana",
    "hangul",
)


def decode(
    payload: bytes,
    name: str,
    errors: str = "strict",
    *,
    first_byte: int = 0,
    first_line: int = 1,
    remedy: str = OF_WINDOWS,
) -> str:
    """UTF-8 bytes as text, without a byte-order mark and with plain newlines.

    Args:
        payload: a file's content, or a part of it.
        name: named in error messages.
        errors: "strict" refuses invalid UTF-8; "replace" puts U+FFFD in its place.
        first_byte, first_line: where the part stands in its file, for error messages.
        remedy: what to do about invalid UTF-8, as a sentence.
    """

    def place(i):
        return f"byte {first_byte + i:,} (line {first_line + payload[:i].count(10):,})"

    other = next(
        (encoding for mark, encoding in BYTE_ORDER_MARKS.items() if payload.startswith(mark)), None
    )
    if other and not first_byte:
        raise UserError(
            f"{name}: expected text in UTF-8. Received: {other}, by its byte-order mark. Save it as"
            f" UTF-8 in an editor, or convert it: iconv -f {other} -t UTF-8 OLD > NEW."
        )
    zero = payload.find(0)
    if zero >= 0:
        raise UserError(
            f"{name}: expected text in UTF-8. Received: a binary file (a zero byte at position"
            f" {first_byte + zero:,})."
        )
    try:
        text = payload.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}: invalid UTF-8 at {place(error.start)}: 0x{payload[error.start]:02x},"
            f" {error.reason}. {remedy}"
        ) from error
    return newlines(text if first_byte else text.removeprefix("\ufeff"))


def newlines(text: str) -> str:
    """A text with plain newlines, whatever system it comes from."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def refuse_surrogates(text: str, name: str) -> None:
    """Refuses a text with lone surrogates.

    These are halves of UTF-16 pairs, which are no characters and have no form in UTF-8. They come
    from escapes in JSON, and from bytes of a command line that are no UTF-8.

    Args:
        text: what was read.
        name: named in the error message.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        character = (
            f"the byte 0x{code - 0xDC00:02x}, which is no UTF-8"
            if 0xDC80 <= code <= 0xDCFF
            else f"the lone surrogate U+{code:04X}"
        )
        raise UserError(
            f"{name}: expected text in Unicode. Received: {character}, at character"
            f" {error.start + 1:,}. Leave it out."
        ) from error


def unescape(text: str) -> str:
    r"""A text from a command line, where \n, \r and \t stand for ends of lines and a tab."""
    for escaped, character in (("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t")):
        text = text.replace(escaped, character)
    return text


def normalize(text: str, form: str) -> str:
    """Unicode normalisation.

    "nfc" composes, "nfkc" also replaces compatibility characters, "none" leaves all as it is.
    """
    if form == "none" or text.isascii():
        return text
    return unicodedata.normalize(form.upper(), _in_order(text, form))


def _in_order(text: str, form: str) -> str:
    """The same text with long runs of combining marks decomposed and in canonical order.

    `unicodedata` brings marks to their order by moving each past the others: n in a row take n^2
    steps, which for a prompt of 200 KB is a minute, and it holds the interpreter's lock meanwhile.
    Marks that are in order are not moved.
    """
    table = _marks(form)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    inside = np.concatenate([[False], table[np.minimum(codes, len(table) - 1)], [False]])
    starts, ends = np.flatnonzero(np.diff(inside.astype(np.int8))).reshape(-1, 2).T
    long = ends - starts > LONG_RUN
    pieces = []
    done = 0
    for start, end in zip(starts[long].tolist(), ends[long].tolist(), strict=True):
        marks = "".join(_decomposed(mark, form) for mark in text[start:end])
        pieces += [text[done:start], "".join(sorted(marks, key=unicodedata.combining))]
        done = end
    return "".join([*pieces, text[done:]]) if pieces else text


@functools.cache
def _marks(form: str) -> np.ndarray:
    """Whether a code point becomes combining marks only, bool [n]; those from n - 1 on do not."""
    marks = [
        code
        for code in range(0x300, 0x20000)
        if all(map(unicodedata.combining, _decomposed(chr(code), form)))
    ]
    table = np.zeros(marks[-1] + 2, bool)
    table[marks] = True
    return table


def _decomposed(character: str, form: str) -> str:
    return unicodedata.normalize("NFKD" if form == "nfkc" else "NFD", character)


def plain(text: str, form: str) -> str:
    """A text from outside, such as a prompt, with plain newlines and normalised as in training."""
    return normalize(newlines(text), form)


def digest(text: str) -> bytes:
    """A digest that exact duplicates share, without regard to white space."""
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()


def rolling_hash(text: str, width: int) -> np.ndarray:
    """A hash of each `width` characters in a row, uint64 [len - width + 1].

    `width` is a power of 2. The hash is a polynomial in the code points modulo 2^64, by doubling
    (Karp and Rabin 1987), then mixed as in SplitMix64.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64) + np.uint64(1)
    if len(codes) < width:
        return np.empty(0, np.uint64)
    base = np.uint64(0x9E3779B97F4A7C15)
    length = 1
    with np.errstate(over="ignore"):
        while length < width:
            codes = codes[:-length] * base + codes[length:]
            base *= base
            length *= 2
        for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
            codes = (codes ^ (codes >> np.uint64(30))) * np.uint64(factor)
    return codes ^ (codes >> np.uint64(31))


def sketch(text: str) -> np.ndarray:
    """The smallest hashes of a text's shingles, sorted.

    A sample by which overlaps are estimated (Broder 1997).
    """
    hashes = np.unique(rolling_hash(" ".join(text.split()), SHINGLE))
    return hashes[:SKETCH]


class NearDuplicates:
    """An index that finds documents sharing most of their shingles with an earlier one."""

    def __init__(self, threshold: float):
        self.threshold, self._sketches, self._holders = threshold, [], {}

    def seen(self, hashes: np.ndarray) -> bool:
        """Whether a document with this sketch resembles an earlier one; remembers it if not."""
        candidates: dict[int, int] = {}
        for value in hashes.tolist():
            for holder in self._holders.get(value, ()):
                candidates[holder] = candidates.get(holder, 0) + 1
        for holder, shared in candidates.items():
            if (
                shared >= self.threshold * len(hashes) / 2
                and self._resemblance(hashes, self._sketches[holder]) >= self.threshold
            ):
                return True
        for value in hashes.tolist():
            holders = self._holders.setdefault(value, [])
            if len(holders) < 50:  # boilerplate that many documents share says nothing
                holders.append(len(self._sketches))
        self._sketches.append(hashes)
        return False

    @staticmethod
    def _resemblance(a: np.ndarray, b: np.ndarray) -> float:
        """Estimated share of common shingles among all of both."""
        union = np.union1d(a, b)[:SKETCH]
        return float(np.isin(union, np.intersect1d(a, b)).mean()) if len(union) else 0.0


def script_share(text: str, script: str) -> float:
    """Share of a text's letters that belong to a script, by their Unicode names.

    1 for a text without letters.
    """
    letters: dict[str, int] = {}
    for character in text:
        if character.isalpha():
            letters[character] = letters.get(character, 0) + 1
    total = sum(letters.values())
    inside = sum(
        count
        for letter, count in letters.items()
        if unicodedata.name(letter, "").startswith(script.upper())
    )
    return inside / total if total else 1.0


def odd_share(text: str) -> float:
    """Share of characters that are odd: control, unassigned, private or U+FFFD.

    Newline and tab are not.
    """
    counts: dict[str, int] = {}
    for character in text:
        counts[character] = counts.get(character, 0) + 1
    odd = sum(
        n
        for c, n in counts.items()
        if c == "\ufffd"
        or (unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs") and c not in "\n\t")
    )
    return odd / max(1, len(text))
