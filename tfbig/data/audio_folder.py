"""Your own recordings with labels: a folder for each class, or a table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.core.files import digests
from tfbig.core.lazy import np
from tfbig.data import _sound_files as files
from tfbig.data._placed import placed
from tfbig.data._recordings import Labelled, split_by_speaker
from tfbig.prep.recordings import wav


@dataclass(frozen=True, kw_only=True)
class AudioFolder(Labelled):
    """Your own labelled recordings, WAV, FLAC, OGG or MP3 of any rate.

    PATH/CLASS/*.wav; PATH/train/CLASS/*.wav beside PATH/test and perhaps PATH/validation; or a
    table (CSV, TSV, JSON lines) with a file and a label in each row and, if known, its speaker and
    split. Splits that are missing are made here, by speaker where speakers are named.
    """

    path: str = knob("", "the folder or table", path=True)
    file: str = knob("", "table: column of the file; empty: file, path, ...")
    label: str = knob("", "table: column of the label; empty: label, class, word, ...")
    speaker: str = knob("", "table: column of the speaker; empty: speaker, if there is one")
    split: str = knob("", "table: column of the split; empty: split, if there is one")
    validation: float = knob(
        0.1, "share held out for validation, if none is given", above=0, high=0.45
    )
    test: float = knob(0.1, "share held out for the test, if none is given", above=0, high=0.45)
    split_seed: int = knob(0, "of the choice of held-out recordings", low=0, high=2**32 - 1)

    @classmethod
    def smallest(cls, folder):
        """Low and high tones in noise, of several lengths and rates."""
        random = np.random.RandomState(0)
        for name, hertz in (("low", 300), ("high", 1200)):
            (folder / "tones" / name).mkdir(parents=True)
            for number in range(40):
                rate = (2000, 4000)[number % 2]
                time = np.arange(int(rate * random.uniform(0.08, 0.3))) / rate
                tone = 0.3 * np.sin(2 * np.pi * hertz * random.uniform(0.9, 1.1) * time)
                samples = tone * (hertz < rate / 2) + random.normal(0, 0.05, len(time))
                content = wav(samples.astype(np.float32), rate)
                (folder / "tones" / name / f"{number:02d}.wav").write_bytes(content)
        return cls(path=str(folder / "tones"), rate_hz=4000, most_s=0.3, validation=0.2, test=0.2)

    def problems(self):
        yield from super().problems()
        if not self.path:
            expected = "expected a folder for each class, or a table"
            yield "path", Needed(f"{expected}. Received: nothing. Set data.path=PATH.")

    def check(self):
        self._rows  # noqa: B018 - says what is wrong with the folder

    @property
    def root(self) -> Path:
        return Path(self.path).expanduser()

    @cached_property
    def _rows(self) -> list[files.Row]:
        if files.is_table(self.root):
            columns = {
                "file": self.file,
                "words": self.label,
                "speaker": self.speaker,
                "split": self.split,
            }
            found = list(files.table(self.root, columns, files.LABEL))
        elif self.root.is_dir():
            found = self._of_folders()
        else:
            raise UserError(
                f"data.path: expected a folder or a table ({', '.join(files.ENDINGS)}). Received:"
                f" {self.root}, which is none."
            )
        names = {row.words for row in found}
        if len(names) < 2 or "" in names:
            raise UserError(
                f"data: {self.root}: expected at least two classes, each with a name. Received:"
                f" {', '.join(map(repr, sorted(names)[:3]))}."
            )
        return found

    def _of_folders(self) -> list[files.Row]:
        """Recordings by the names of their folders: classes, perhaps inside of splits."""
        paths = files.sounds(self.root)
        return [
            files.Row(path=path, words=name, split=split)
            for path, (split, name) in zip(paths, placed(self.root, paths), strict=True)
        ]

    @property
    def label_names(self):
        return tuple(sorted({row.words for row in self._rows}))

    def divided(self):
        numbers = {name: number for number, name in enumerate(self.label_names)}
        listed = [files.opened(row, self.rate_hz, label=numbers[row.words]) for row in self._rows]
        shares = {"test": self.test, "validation": self.validation}
        splits = split_by_speaker(listed, shares, self.split_seed)
        untaught = {*numbers.values()} - {one.label for one in splits["train"]}
        if untaught:
            raise UserError(
                f"data: {self.root} leaves no recording of {self.label_names[min(untaught)]!r} to"
                " train on. Expected each class in the training split, by several speakers where"
                " they are named."
            )
        return splits

    def notes(self):
        """Also lines about files that are left out."""
        return [*super().notes(), *files.left_out(self.root, self._rows)]

    def content(self):
        lines = digests(row.path for row in self._rows)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def source_card(self):
        return {
            "title": f"recordings in {self.root.name}",
            "source": str(self.root),
            "licence": "see the source",
            "citation": "see the source",
        }
