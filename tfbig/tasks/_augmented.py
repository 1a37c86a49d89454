"""Pictures that are changed at random while training, for tasks that learn from such ones."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.contracts import Task
from tfbig.prep import augment
from tfbig.prep import image as prep


@dataclass(frozen=True, kw_only=True)
class Augmented(Task):
    """A task whose training pictures are shifted, mirrored, covered, recoloured and mixed."""

    crop_padding: int = knob(
        0,
        "training: random shift of up to so many pixels, filled with the edge's mirror image or"
        " black",
        low=0,
    )
    crop_fill: str = knob("black", "training: what a shift brings in", choices=("black", "mirror"))
    flip: bool = knob(False, "training: mirror left-right at random")
    cutout: int = knob(
        0,
        "training: side in pixels of a black square put at random (DeVries and Taylor 2017)",
        low=0,
    )

    changes: int = knob(
        0,
        "training: random changes of geometry and colours to each picture, one after another"
        " (RandAugment, Cubuk et al. 2020)",
        low=0,
        high=8,
    )
    change_strength: float = knob(0.5, "of each of these changes", above=0, high=1)
    mixup: float = knob(
        0.0,
        "training: each picture shines through its neighbour in the batch, by shares of"
        " Beta(mixup, mixup) (Zhang et al. 2018)",
        low=0,
    )
    cutmix: float = knob(
        0.0,
        "training: a rectangle of each picture is its neighbour's, of areas of"
        " Beta(cutmix, cutmix) (Yun et al. 2019); with mixup too, either",
        low=0,
    )

    @property
    def mixes(self) -> bool:
        """Whether training pictures are mixed with their neighbours in a batch."""
        return bool(self.mixup or self.cutmix)

    @property
    def together(self):
        return 2 if self.mixes else 1

    def check_changes(self, shape: tuple[int, ...]) -> None:
        """Refuses a shift that would leave nothing of pictures of this height and width."""
        if self.crop_padding >= min(shape[:2]):
            raise ValueError(
                f"task.crop_padding: expected less than the side of the pictures, {shape[0]} x"
                f" {shape[1]}. Received: {self.crop_padding}."
            )

    def changed(self, image, key):
        """Pictures uint8 [batch, height, width, channels], each changed at random."""
        if self.crop_padding:
            image = prep.random_crop(image, key, self.crop_padding, mode=self.crop_fill)
        if self.flip:
            image = prep.random_flip(image, key)
        if self.cutout:
            image = prep.cutout(image, key, self.cutout)
        if self.changes:
            image = augment.rand_augment(image, key, self.changes, self.change_strength)
        return image

    def mixed(self, ready, key):
        """Pictures mixed with their neighbours, whose labels are "other"; "share" is their own."""
        image, share = augment.mix(ready["image"], key, self.mixup, self.cutmix)
        other = augment.neighbours(ready["label"])
        return {"image": image, "label": ready["label"], "other": other, "share": share}

    @property
    def changes_in_words(self) -> str:
        changes = [
            f"shifted by up to {self.crop_padding} pixels" if self.crop_padding else "",
            "mirrored left-right" if self.flip else "",
            f"a black square of {self.cutout} pixels" if self.cutout else "",
            f"{self.changes} changes of geometry or colours" if self.changes else "",
            "mixed with a neighbour" if self.mixes else "",
        ]
        words = ", ".join(filter(None, changes))
        return f"at random, {words}" if words else "without random changes"
