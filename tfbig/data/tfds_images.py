"""Any labelled image dataset of TensorFlow Datasets, of ImageNet's size too, read at random."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.lazy import np
from tfbig.data import _tfds
from tfbig.data._images import EncodedImages
from tfbig.data._tfds_labelled import TFDSLabelled


@dataclass(frozen=True, kw_only=True)
class TFDSImages(TFDSLabelled, EncodedImages):
    """Any labelled image dataset of TensorFlow Datasets, larger than memory or not.

    It is read at random from ArrayRecord or TFRecord files.
    """

    noun, content, kind = "picture", "image_key", "Image"
    version = 2

    builder: str = knob(
        "imagenet2012",
        "TensorFlow Datasets' name, or name/configuration, such as imagenet_resized/64x64",
    )
    side: int = knob(224, "height and width in pixels: the centre square, resized", low=1)
    test_part: str = knob(
        "validation",
        "published part used as test split (ImageNet's own test labels are not published)",
    )
    validation: int = knob(
        10_000, "training examples held out if no validation part is named", low=1
    )
    image_key: str = knob("image", "the feature that holds the picture")

    @classmethod
    def smallest(cls, folder):
        """Pictures of one grey each, prepared as published ones are."""
        from tensorflow_datasets import features

        kinds = {
            "image": features.Image(shape=(None, None, 3)),
            "label": features.ClassLabel(names=["dark", "bright"]),
        }
        parts = {
            part: [
                {"image": np.full((9, 9 + i % 4, 3), 3 * i, np.uint8), "label": int(i > count // 2)}
                for i in range(count)
            ]
            for part, count in (("train", 60), ("validation", 20))
        }
        _tfds.prepare_made_up("grey_pictures", folder, kinds, parts, random_access=True)
        return cls(builder="grey_pictures", side=8, validation=15)

    def stored(self, split, positions):
        records, names = self.records(split, positions)
        contents = [record[self.image_key] for record in records]
        return contents, [record[self.label_key] for record in records], names
