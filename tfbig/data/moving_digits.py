"""Moving digits: clips of one handwritten digit each, labelled by how it moves; semi-synthetic."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.dataset import Dataset
from tfbig.core.features import Feature
from tfbig.core.lazy import np
from tfbig.data import _mnist_files
from tfbig.data._images import check_split

# What changes from frame to frame: down, to the right (pixels), anticlockwise (radians), size (log)
MOTIONS = {
    "left": (0, -1, 0, 0),
    "right": (0, 1, 0, 0),
    "up": (-1, 0, 0, 0),
    "down": (1, 0, 0, 0),
    "anticlockwise": (0, 0, 1, 0),
    "clockwise": (0, 0, -1, 0),
    "growing": (0, 0, 0, 1),
    "shrinking": (0, 0, 0, -1),
}
SLOWEST = (0.8, 0.8, 0.1, 0.025)  # a frame
FASTEST = (2.5, 2.5, 0.25, 0.06)
SIDE = 32
SMALLEST, LARGEST = 0.6, 1.1  # of MNIST's own size
DRAWN_TOGETHER = 128  # clips
SPLIT_NUMBER = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True, kw_only=True)
class MovingDigits(Dataset):
    """Moving digits: clips of one handwritten digit each; the label is how it moves.

    Made from MNIST, so real strokes in made-up motion. One frame alone says nothing of the motion:
    the picture goes round (what leaves on one side enters on the other, the largest becomes the
    smallest), so that place, angle and size of each frame are uniform whatever the motion is.
    """

    gives = frozenset({"video", "label"})
    background = 0

    frames: int = knob(16, "frames of a clip; 1: a picture, which says nothing of a motion", low=1)
    target: str = knob("motion", "what the label says", choices=("motion", "digit"))
    train: int = knob(8_000, "clips to train on, each of another digit", low=8, high=50_000)
    validation: int = knob(1_000, "clips of the validation split", low=8, high=10_000)
    test: int = knob(
        2_000, "clips of the test split, of MNIST's own test digits", low=8, high=10_000
    )
    seed: int = knob(0, "of the choice of digits and of their motions", low=0, high=2**31 - 1)

    @classmethod
    def smallest(cls, folder):
        return cls(frames=4, train=64, validation=16, test=24)

    @property
    def spec(self):
        video = Feature(shape=(self.frames, SIDE, SIDE, 1), dtype="uint8", unit="intensity 0-255")
        return {"video": video, "label": Feature(shape=(), dtype="int32")}

    @property
    def label_names(self):
        return tuple(MOTIONS) if self.target == "motion" else tuple("0123456789")

    def size(self, split):
        check_split(split)
        return getattr(self, split)

    def labels(self, split):
        return self.arrays(split)["label"]

    def arrays(self, split):
        check_split(split)
        return _clips(self, split)

    def examples(self, split, positions):
        rows = np.asarray(positions, np.int64)
        return {name: value[rows] for name, value in self.arrays(split).items()}

    def card(self):
        return {
            "title": "moving digits: MNIST's digits in made-up motion (semi-synthetic)",
            "source": "made here of MNIST, http://yann.lecun.com/exdb/mnist/",
            "licence": "CC BY-SA 3.0",
            "citation": (
                "LeCun, Y., Bottou, L., Bengio, Y., Haffner, P. (1998). Gradient-based learning"
                " applied to document recognition. Proceedings of the IEEE 86(11), 2278-2324."
            ),
        }


@functools.lru_cache(maxsize=6)
def _clips(data: MovingDigits, split: str) -> dict[str, np.ndarray]:
    """A whole split, drawn once; RandomState's stream is the same for all versions of NumPy."""
    random = np.random.RandomState([data.seed, SPLIT_NUMBER[split]])
    count = data.size(split)
    image, digit = _digits(data, split)
    motion = np.arange(count) % len(MOTIONS)
    # All but the motion is drawn without regard to it
    share = random.uniform(size=(count, 4))
    first = share * (SIDE, SIDE, 2 * np.pi, np.log(LARGEST / SMALLEST))
    speed = np.exp(random.uniform(np.log(SLOWEST), np.log(FASTEST), (count, 4)))
    step = speed * np.array(list(MOTIONS.values()))[motion]
    video = np.empty((count, data.frames, SIDE, SIDE, 1), np.uint8)
    for start in range(0, count, DRAWN_TOGETHER):
        rows = slice(start, start + DRAWN_TOGETHER)
        state = first[rows, None] + step[rows, None] * np.arange(data.frames)[:, None]
        video[rows, ..., 0] = draw(image[rows], state)
    label = motion if data.target == "motion" else digit
    return {"video": video, "label": label.astype(np.int32)}


def _digits(data: MovingDigits, split: str) -> tuple[np.ndarray, np.ndarray]:
    """As many digits as a split has clips, each of them another, and what they are."""
    image, label = _mnist_files.part("test" if split == "test" else "train")
    chosen = np.random.RandomState(data.seed).permutation(len(image))
    first = data.train if split == "validation" else 0
    rows = chosen[first : first + data.size(split)]
    return image[rows, ..., 0], label[rows]


def draw(image_nhw: np.ndarray, state_nt4: np.ndarray) -> np.ndarray:
    """Digits as they stand in each frame, uint8 [n, frames, SIDE, SIDE], interpolated linearly.

    Args:
        image_nhw: uint8, the digits.
        state_nt4: row and column of the middle in pixels, angle in radians, and the logarithm of
            the size over SMALLEST: all of them go round.
    """
    n, frames, _ = state_nt4.shape
    row, column, angle, size = (state_nt4[..., i, None, None] for i in range(4))
    scale = SMALLEST * np.exp(size % np.log(LARGEST / SMALLEST))
    place = np.arange(SIDE)
    half = SIDE / 2
    down = ((place[:, None] - row + half) % SIDE - half) / scale
    right = ((place[None, :] - column + half) % SIDE - half) / scale
    cosine, sine = np.cos(angle), np.sin(angle)
    middle = (image_nhw.shape[1] - 1) / 2
    # Where each pixel comes from: turned back, clockwise, about the digit's middle
    source_row = (middle + cosine * down + sine * right).astype(np.float32)
    source_column = (middle - sine * down + cosine * right).astype(np.float32)
    padded = np.pad(image_nhw, ((0, 0), (1, 2), (1, 2))).astype(np.float32)
    last = image_nhw.shape[1]
    y = np.clip(source_row + 1, 0, last + 0.999)
    x = np.clip(source_column + 1, 0, last + 0.999)
    top, left = y.astype(np.int32), x.astype(np.int32)
    y, x = y - top, x - left
    side = padded.shape[1]
    index = (np.arange(n)[:, None, None, None] * side + top) * side + left
    flat = padded.reshape(-1)
    above = flat[index] * (1 - x) + flat[index + 1] * x
    below = flat[index + side] * (1 - x) + flat[index + side + 1] * x
    return np.rint(above * (1 - y) + below * y).astype(np.uint8).reshape(n, frames, SIDE, SIDE)
