"""The contract of data: examples with random access, in splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tfbig.core.component import Component, knob
from tfbig.core.features import Spec

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Dataset(Component):
    """Examples with random access by position, in three disjoint splits.

    Train, validation, test.
    """

    gives: ClassVar[frozenset[str]] = frozenset()
    """The kinds of things that its examples hold, such as image, label, tokens, boxes, samples."""

    background: ClassVar[int] = 255
    """Pictures: what shows through the transparent parts of a PNG, in training and in use.

    0 black ... 255 white, as on a page.
    """

    centre = 1.0  # without a type, so that a dataset may make a setting of it
    """Pictures: of the sides of the largest part in the middle, the share that is seen.

    So in evaluations and in use.
    """

    on_error: str = knob(
        "stop",
        "a record that cannot be read: stop, or skip it and let the next readable one stand in",
        choices=("stop", "skip"),
    )
    max_skipped: int = knob(
        100, "skip: with more unreadable records than these training stops all the same", low=0
    )

    @classmethod
    def smallest(cls, folder: Path) -> Dataset:
        """A few dozen examples of this kind, for tests: made on the spot in `folder`, which exists.

        Tests let TFDS_DATA_DIR and XDG_CACHE_HOME name that folder too. The default is for data
        that travels with the package.
        """
        return cls()

    @property
    def spec(self) -> Spec:
        """The raw example: name -> shape, dtype, unit."""
        raise NotImplementedError

    def check(self) -> None:
        """Refuses data that is not there.

        It is called before anything heavy is imported, so it works without TensorFlow.
        """

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers; empty where there are none."""
        return ()

    def labels(self, split: str) -> np.ndarray | None:
        """The number of each example's class, int [n]; None: only reading the examples tells."""
        return None

    def size(self, split: str) -> int:
        """Number of examples in a split."""
        raise NotImplementedError

    def examples(self, split: str, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The raw examples at `positions` (int64 [n]), stacked: name -> [n, ...].

        A feature with a free axis is a list of n arrays instead, each as long as it is.
        """
        raise NotImplementedError

    def random_views(self, positions: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
        """The training examples at `positions` as training sees them this time.

        Of the same shapes as what `examples` returns, which it is by default. Data of which a
        random part is cheaper to choose while it is read, such as a part of a picture, read it
        here. It is asked where `arrays` gives no training split.

        Args:
            positions: int64 [n].
            keys: uint32 [n, 2]; all that is random comes from them, see `prep.random`.
        """
        return self.examples("train", positions)

    def lengths(self, split: str) -> dict[str, np.ndarray] | None:
        """How long each example's features with a free axis are: name -> int [n].

        Given, batches are made of examples of like length; None: all are padded to the longest.
        """
        return None

    def groups(self, split: str) -> np.ndarray | None:
        """The group of each example that may not stand in two splits, numbers or names [n].

        Such as a speaker, a gene or a document; None where there is no such thing.
        """
        return None

    def arrays(self, split: str) -> dict[str, np.ndarray] | None:
        """The whole split if it is small enough to live on the device, else None.

        Same rows as `examples`.
        """
        return None

    def encoded(self, split: str, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Parts of the examples at `positions` as their owner stores them.

        Name in `spec` -> bytes [n]; none by default. It is called only for examples that `examples`
        could read, and exports are verified with them.
        """
        return {}

    def fingerprint(self) -> str:
        """A text that changes when the examples or their splits do; empty where they cannot.

        A dataset whose code comes to read them differently, more of them or through another
        decoder, puts 2: before it, then 3:, ...
        """
        return ""

    def card(self) -> dict[str, Any]:
        """What a data card says: title, source, licence, citation."""
        return {}

    def notes(self) -> list[str]:
        """What must be known before training, a line each; empty where there is nothing to say.

        Such as records that were left out, or that stand in two splits. The lines are shown when a
        run starts and kept in its data.json.
        """
        return []
