"""Cuts spoken digits or letters out of videos of a speaker's mouth, as a folder of clips.

    python benchmarks/grid_lips.py grid_s1_mouth.zip FOLDER --word digit
    python -m tfbig.train grid_lips data.path=FOLDER

The zip holds labels.csv (file, transcript, word_frames: the first and last frame of each of
six words) and for each sentence a JPEG of its 48 frames, 32 x 48 pixels each, in 8 rows of 6. Made
of the GRID corpus, speaker s1 (Cooke et al. 2006, CC BY 4.0). FOLDER becomes WORD/*.gif; grey GIFs
keep each pixel. The split of labels.csv is left aside: every fourth of the sorted sentences tests
six of the ten digits alone.
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

ROWS, COLUMNS, HEIGHT, WIDTH = 8, 6, 32, 48
WORDS = {"letter": 3, "digit": 4}
MARGIN = 2  # frames before and behind a word: lips move before they are heard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("zip", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--word", choices=tuple(WORDS), default="digit")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.zip) as archive:
        for row in csv.DictReader(io.TextIOWrapper(archive.open("labels.csv"), "utf-8")):
            number = WORDS[arguments.word]
            word = row["transcript"].split()[number]
            first, last = map(int, row["word_frames"].split()[number].split("-"))
            frames = video(archive.read(row["file"]))[max(0, first - MARGIN) : last + MARGIN + 1]
            path = arguments.folder / word / f"{Path(row['file']).stem}.gif"
            path.parent.mkdir(parents=True, exist_ok=True)
            save(frames, path)


def video(sheet: bytes) -> np.ndarray:
    """The frames of a sheet, uint8 [48, 32, 48]."""
    grey = np.asarray(Image.open(io.BytesIO(sheet)).convert("L"))
    cells = grey.reshape(ROWS, HEIGHT, COLUMNS, WIDTH).transpose(0, 2, 1, 3)
    return cells.reshape(-1, HEIGHT, WIDTH)


def save(frames: np.ndarray, path: Path) -> None:
    """Writes a GIF of all frames, those that are alike too."""
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=others, duration=40, loop=0, optimize=False)


if __name__ == "__main__":
    main()
