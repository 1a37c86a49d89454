"""Your own transcribed speech: a table, or LibriSpeech's, LJSpeech's or Kaldi's form."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.core.files import digests
from tfbig.core.lazy import np
from tfbig.data import _speech_forms as forms
from tfbig.data._recordings import split_by_speaker
from tfbig.data._sound_files import Row, left_out, opened
from tfbig.data._transcribed import Transcribed
from tfbig.prep.recordings import wav


@dataclass(frozen=True, kw_only=True)
class SpeechFolder(Transcribed):
    """Your own recordings with transcripts, WAV, FLAC, OGG or MP3 of any rate.

    A table (CSV, TSV, JSON lines) with a file and a text in each row and, if known, its speaker and
    split; or a folder in LibriSpeech's, LJSpeech's or Kaldi's form. Splits that are missing are
    made here, by speaker where speakers are named.
    """

    path: str = knob("", "the table or folder", path=True)
    file: str = knob("", "table: column of the file; empty: file, audio_filepath, path, ...")
    text: str = knob("", "table: column of the transcript; empty: text, transcript, sentence, ...")
    speaker: str = knob("", "table: column of the speaker; empty: speaker, if there is one")
    split: str = knob("", "table: column of the split; empty: split, if there is one")
    validation: float = knob(
        0.1, "share held out for validation, if none is given", above=0, high=0.45
    )
    test: float = knob(0.1, "share held out for the test, if none is given", above=0, high=0.45)
    split_seed: int = knob(0, "of the choice of held-out speakers", low=0, high=2**32 - 1)

    @classmethod
    def smallest(cls, folder):
        """Letters as tones, one after another, with a JSON line for each recording."""
        random = np.random.RandomState(0)
        rate = 2000
        (folder / "speech").mkdir()
        lines = []
        for number in range(100):
            letters = random.choice(["a", "b"], 1 + number % 3)
            parts = [np.zeros(100)]
            for letter in letters:
                time = np.arange(random.randint(200, 300)) / rate
                parts += [0.5 * np.sin(2 * np.pi * {"a": 200, "b": 700}[letter] * time)]
                parts += [np.zeros(100)]
            samples = np.concatenate(parts)
            samples = samples + random.normal(0, 0.01, len(samples))
            name = f"{number:02d}.wav"
            (folder / "speech" / name).write_bytes(wav(samples.astype(np.float32), rate))
            lines.append(json.dumps({"audio_filepath": name, "text": "".join(letters)}))
        (folder / "speech" / "manifest.json").write_text("\n".join(lines), "utf-8")
        return cls(
            path=str(folder / "speech" / "manifest.json"),
            rate_hz=rate,
            most_s=0.8,
            most_tokens=4,
            validation=0.2,
            test=0.2,
        )

    def problems(self):
        yield from super().problems()
        if not self.path:
            expected = f"expected {forms.FORMS}"
            yield "path", Needed(f"{expected}. Received: nothing. Set data.path=PATH.")

    def check(self):
        self._rows  # noqa: B018 - says what is wrong with the folder

    @property
    def root(self) -> Path:
        return Path(self.path).expanduser()

    @cached_property
    def _rows(self) -> list[Row]:
        if not self.root.exists():
            raise UserError(f"data.path: expected {forms.FORMS}. Received: {self.root}, no file.")
        columns = {
            "file": self.file,
            "words": self.text,
            "speaker": self.speaker,
            "split": self.split,
        }
        found = forms.rows(self.root, columns)
        if not found:
            raise UserError(f"data: {self.root}: expected recordings. Received: none.")
        return found

    def divided(self):
        listed = [opened(row, self.rate_hz, text=row.words) for row in self._rows]
        shares = {"test": self.test, "validation": self.validation}
        return split_by_speaker(listed, shares, self.split_seed)

    def notes(self):
        """Also a line about recordings of a folder that have no transcript."""
        return [*super().notes(), *left_out(self.root, self._rows)]

    def content(self):
        lines = digests(row.path for row in self._rows)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def source_card(self):
        return {
            "title": f"transcribed speech in {self.root.name}",
            "source": str(self.root),
            "licence": "see the source",
            "citation": "see the source",
        }
