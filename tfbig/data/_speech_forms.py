"""The forms in which transcribed speech is kept: LibriSpeech's, LJSpeech's, Kaldi's, or a table."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from tfbig.core.errors import LeftOut, UserError
from tfbig.core.folders import files_inside
from tfbig.data import _tables
from tfbig.data._sound_files import TEXT, Row, existing, is_table, table
from tfbig.prep import text as prep
from tfbig.prep.recordings import SUFFIXES

FEW = 5  # lines that tell nothing of a column
FORMS = (
    "a table (CSV, TSV, JSON lines) with a file and a text in each row, LibriSpeech's *.trans.txt,"
    " LJSpeech's metadata.csv beside wavs, or Kaldi's text and wav.scp"
)


def rows(root: Path, columns: dict[str, str]) -> list[Row]:
    """The recordings of a folder or table, in the first of the forms that it has."""
    if is_table(root):
        return list(table(root, columns, TEXT))
    files = files_inside(root)
    transcripts = [path for path in files if path.name.endswith(".trans.txt")]
    scripts = [path for path in files if path.name == "wav.scp"]
    if transcripts:
        return [row for path in transcripts for row in _librispeech(root, path)]
    if scripts:
        return [row for path in scripts for row in _kaldi(root, path.parent)]
    if (root / "metadata.csv").is_file() and (root / "wavs").is_dir():
        return list(_ljspeech(root))
    tables = [path for path in files if is_table(path)]
    if len(tables) == 1:
        return list(table(tables[0], columns, TEXT))
    received = f"{root}, which holds none of them"
    if tables:
        names = ", ".join(path.name for path in tables[:3])
        received = f"{len(tables):,} tables ({names}). Name one of them"
    raise UserError(f"data.path: expected {FORMS}. Received: {received}.")


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of a file as (place, [first word, rest])."""
    for place, line in _whole_lines(path):
        yield place, [*line.strip().split(maxsplit=1), ""][:2]


def _whole_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file that are not blank, each with its place.

    Only ends of lines divide them: transcripts may hold what else Unicode ends lines with.
    """
    for number, line in enumerate(prep.decode(_tables.read(path), str(path)).split("\n"), 1):
        if line.strip():
            yield f"{path}, line {number:,}", line


def _named(path: Path) -> dict[str, str]:
    """Of each first word of a file's lines the rest; the same word twice is refused."""
    rest: dict[str, str] = {}
    for place, (name, words) in _lines(path):
        if rest.setdefault(name, words) != words:
            raise UserError(
                f"{place}: expected each name once. Received: {name} again, with other words. Take"
                " one line out."
            )
    return rest


def _split_of(root: Path, folder: Path) -> str:
    """The split that a folder, or one around it, is called by: train-clean-100, dev-other, test."""
    for name in folder.relative_to(root).parts:
        split = _tables.SPLIT_NAMES.get(name.lower().replace("_", "-").partition("-")[0])
        if split:
            return split
    return ""


def _librispeech(root: Path, transcript: Path) -> Iterator[Row]:
    """SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, a line for each recording beside it."""
    for place, (name, text) in _lines(transcript):
        path = _existing(transcript.parent / name, place)
        speaker = name.partition("-")[0]
        split = _split_of(root, transcript.parent)
        yield Row(path=path, words=text, speaker=speaker, split=split)


def _ljspeech(root: Path) -> Iterator[Row]:
    """metadata.csv of name|text|text with numbers as words; one speaker, named by nothing."""
    path = root / "metadata.csv"
    rows = []
    for place, line in _whole_lines(path):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) not in (2, 3):
            raise UserError(
                f"{place}: expected name|text or name|text|text with numbers as words. Received:"
                f" {line[:40]!r}."
            )
        rows.append((place, *cells))
    whole = [row for row in rows if len(row) == 4 and row[2] and row[3]]
    texts, spoken = ({row[column] for row in whole} for column in (2, 3))
    are_names = all(" " not in each for each in spoken)
    if are_names and len(whole) >= FEW and len(spoken) < len(texts) // 2:
        raise UserError(
            f"{path}: expected the same text twice in a line, the second time with numbers as"
            f" words. Received: {len(spoken):,} different ones for {len(texts):,} texts, such as"
            f" {min(spoken)[:40]!r}. If they are speakers, make a table of it with a header: file,"
            " text, speaker."
        )
    for place, name, *texts in rows:
        words = next((text for text in reversed(texts) if text), "")
        yield Row(path=_existing(root / "wavs" / name, place), words=words)


def _kaldi(root: Path, folder: Path) -> Iterator[Row]:
    """wav.scp (utterance file), text (utterance words) and, if it is there, utt2spk."""
    texts = _named(folder / "text")
    speakers = _named(folder / "utt2spk") if (folder / "utt2spk").is_file() else {}
    if (folder / "segments").is_file():
        raise UserError(
            f"{folder / 'segments'}: parts of recordings are not read. Cut the recordings, one file"
            " for each utterance."
        )
    recorded = _named(folder / "wav.scp")  # each utterance once
    if unheard := sorted(texts.keys() - recorded.keys()):
        message = f"{len(unheard):,} lines left out, which wav.scp has no recording for, such as"
        warnings.warn(f"{folder / 'text'}: {message} {unheard[0]}", LeftOut, stacklevel=2)
    for place, (name, file) in _lines(folder / "wav.scp"):
        if file.endswith("|"):
            raise UserError(
                f"{place}: expected a file. Received: a command, {file[:60]!r}. Nothing is run:"
                " write its output to files."
            )
        if name not in texts:
            raise UserError(f"{place}: {folder / 'text'} has no line for {name}.")
        candidates = [Path(file), root / file, folder / file]
        path = next((each for each in candidates if each.is_file()), None)
        if path is None:
            raise UserError(f"{place}: there is no file {file}.")
        yield Row(
            path=path,
            words=texts[name],
            speaker=speakers.get(name, ""),
            split=_split_of(root, folder),
        )


def _existing(path: Path, place: str) -> Path:
    found = existing(path)
    if found is None:
        raise UserError(f"{place}: there is no recording {path} ({', '.join(SUFFIXES)}).")
    return found
