"""What a run knows of its data: measured once, kept in data.json, compared ever after."""

from __future__ import annotations

import itertools

from tfbig.core.dataset import Dataset
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment
from tfbig.core.features import SPLITS
from tfbig.core.lazy import np
from tfbig.core.run import Run
from tfbig.core.spelling import doubtful
from tfbig.engine.readable import Readable, groups_of
from tfbig.engine.setup import training_facts


def measure(run: Run, experiment: Experiment, data: Readable) -> dict:
    """What preprocessing needs to know of the training split.

    Measured once, then read from data.json.
    """
    splits = {}
    saved = run.read_json("data.json")
    if saved is not None:
        fingerprint = data.fingerprint()
        # Runs from before this data had a fingerprint have none
        saved_fingerprint = saved.get("fingerprint") or fingerprint
        remedy = "Bring the old data back, or start a new run."
        if saved_fingerprint.rpartition(":")[0] != fingerprint.rpartition(":")[0]:
            raise UserError(
                f"data: {run.path} was started with a version of this package that looked at it"
                " otherwise, so it cannot be told whether it is still the same. Start a new run;"
                " predict can still be used."
            )
        if saved_fingerprint != fingerprint:
            raise UserError(
                f"data: it has changed since {run.path} was started, so its examples or splits are"
                f" no longer the same. {remedy}"
            )
        for split, entry in saved["splits"].items():
            if (
                not data.skipped[split]
                and experiment.data.on_error == "stop"
                and entry["size"] != data.size(split)
            ):
                raise UserError(
                    f"data: its {split} split had {entry['size']:,} examples when {run.path} was"
                    f" started, and has {data.size(split):,} now. {remedy}"
                )
        return saved["facts"]
    facts = training_facts(experiment, data)
    # Nothing of the test split is read before training is over
    for split in ("train", "validation"):
        splits[split] = described(data, split)
    known = {"card": data.card(), "notes": notes(data), "fingerprint": data.fingerprint()}
    run.write_json("data.json", {**known, "splits": splits, "facts": facts})
    return facts


def notes(data: Dataset | Readable) -> list[str]:
    """What must be known of the data before training.

    What it says itself, names of classes that are doubtful, and shared groups.
    """
    lines = [*data.notes(), *doubtful(data.label_names)]
    groups = {split: groups_of(data, split) for split in SPLITS}
    for first, second in itertools.combinations(SPLITS, 2):
        if groups[first] is not None and groups[second] is not None:
            shared = np.intersect1d(groups[first], groups[second])
            if len(shared):
                lines.append(
                    f"groups of examples that stand in the {first} and in the {second} split:"
                    f" {len(shared):,}, such as {shared[0]}; on new ones the model may do worse"
                )
    return lines


def described(data: Readable, split: str) -> dict:
    """As `counted`, after reading a small split, so that its unreadable records are known."""
    data.arrays(split)
    return counted(data, split)


def counted(data: Readable, split: str) -> dict:
    """A split's size and, where known, the examples of each class; unreadable ones are left out."""
    skipped = list(data.skipped[split])
    names = data.label_names
    counts = {"size": data.size(split) - len(skipped), "classes": {}}
    labels = data.labels(split) if names else None
    if labels is not None:
        numbers = np.bincount(np.delete(labels, skipped), minlength=len(names))
        counts["classes"] = dict(zip(names, numbers.tolist(), strict=True))
    return counts
