"""Any labelled video dataset of TensorFlow Datasets, such as UCF101, read at random."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.features import Feature
from tfbig.core.lazy import np
from tfbig.data import _tfds
from tfbig.data._images import decode_pictures
from tfbig.data._tfds_labelled import TFDSLabelled
from tfbig.prep.films import middles


@dataclass(frozen=True, kw_only=True)
class TFDSVideos(TFDSLabelled):
    """Any labelled video dataset of TensorFlow Datasets, larger than memory or not.

    Of a video of n frames, frame floor((i + 1/2) n / frames) is taken for each i below `frames`; no
    other is decoded.
    """

    gives = frozenset({"video", "label"})
    noun, content, kind = "video", "video_key", "Video"

    builder: str = knob(
        "ucf101/ucf101_1_256",
        "TensorFlow Datasets' name, or name/configuration; ucf101_1 is the first published split",
    )
    frames: int = knob(16, "frames taken of each video, the middles of equal parts", low=1)
    height: int = knob(112, "of a frame, in pixels: the centre, resized", low=1)
    width: int = knob(112, "of a frame, in pixels", low=1)
    video_key: str = knob("video", "the feature that holds the frames")

    @classmethod
    def smallest(cls, folder):
        """Videos of one grey each, prepared as published ones are."""
        from tensorflow_datasets import features

        kinds = {
            "video": features.Video(shape=(None, 9, 12, 3)),
            "label": features.ClassLabel(names=["dark", "bright"]),
        }
        parts = {
            part: [
                {
                    "video": np.full((4 + i % 3, 9, 12, 3), 3 * i, np.uint8),
                    "label": int(i > count // 2),
                }
                for i in range(count)
            ]
            for part, count in (("train", 40), ("test", 12))
        }
        _tfds.prepare_made_up("grey_videos", folder, kinds, parts, random_access=True)
        return cls(builder="grey_videos", frames=4, height=8, width=8, validation=10)

    @property
    def spec(self):
        shape = (self.frames, self.height, self.width, 3)
        video = Feature(shape=shape, dtype="uint8", unit="intensity 0-255")
        return {"video": video, "label": Feature(shape=(), dtype="int32")}

    def examples(self, split, positions):
        records, names = self.records(split, positions)
        shape = self.spec["video"].shape
        video = np.empty((len(records), *shape), np.uint8)
        for place, record, name in zip(video, records, names, strict=True):
            stored = record[self.video_key]
            chosen = [stored[i] for i in middles(len(stored), self.frames)]
            called = [f"a frame of {name}"] * self.frames
            place[:] = decode_pictures(chosen, called, shape[1:], self.background)
        labels = np.array([record[self.label_key] for record in records], np.int32)
        return {"video": video, "label": labels}

    def notes(self):
        if self.validation_part:
            return []
        sentence = "the validation split is held out from train at random: videos of one source may"
        return [f"{sentence} stand in both, for TensorFlow Datasets does not tell sources"]
