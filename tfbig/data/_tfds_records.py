"""Datasets of TensorFlow Datasets, read at any position: stored as ArrayRecord or as TFRecord."""

from __future__ import annotations

import functools
from pathlib import Path

from tfbig.data._tfds import damaged, files_of, reason, stored_as
from tfbig.data._tfrecords import TFRecords


class _Deserialised:
    """Examples of a part stored as TFRecord, as `as_data_source` gives those of ArrayRecord."""

    def __init__(self, builder, part: str, decoders: dict):
        self.records = TFRecords(builder.info.splits[part].filepaths)
        self.read = functools.partial(
            builder.info.features.deserialize_example_np, decoders=decoders
        )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> dict:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.read(self.records[row])

    def __getitems__(self, rows: list[int]) -> list[dict]:
        return [self[row] for row in rows]


def source(builder, part: str, decoders: dict):
    """A part's examples as a sequence that is read at random, one or several (`__getitems__`).

    Args:
        builder: of `open_builder(name, random_access=True)`.
        part: of the dataset.
        decoders: name -> decoder of TensorFlow Datasets in place of a feature's own.
    """
    if stored_as(builder) == "array_record":
        return builder.as_data_source(split=part, decoders=decoders)
    return _Deserialised(builder, part, decoders)


def check_records(builder, part: str) -> None:
    """Refuses a part whose files do not hold the records it should have.

    Raises:
        NoData: a file is missing, damaged, outside the dataset's folder, or holds more or fewer
            records.
    """
    paths = files_of(builder, part)
    split = builder.info.splits[part]
    count = _count_array_records if stored_as(builder) == "array_record" else _count_tfrecords
    for path, expected in zip(paths, split.shard_lengths, strict=True):
        try:
            records = count(path)
        except Exception as error:  # a library raises RuntimeError and more
            raise damaged(f"{path} cannot be read: {reason(error)}") from error
        if records != expected:
            stated = f"{expected:,} records, as dataset_info.json says"
            raise damaged(f"{path}: expected {stated}. Received: {records:,}.")


def _count_array_records(path: Path) -> int:
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(str(path))
    count = reader.num_records()
    reader.close()
    return count


def _count_tfrecords(path: Path) -> int:
    return len(TFRecords([path]))
