"""SavedModel: the artefact that TensorFlow Serving loads."""

from __future__ import annotations

from pathlib import Path

from tfbig.core.files import write_json
from tfbig.core.lazy import tf
from tfbig.deploy import allowlist
from tfbig.deploy.programs import Programs


def write(programs: Programs, folder: Path, facts: dict) -> None:
    """Writes a SavedModel with every program as a signature.

    Args:
        programs: what to save.
        folder: the version's directory.
        facts: JSON values about data, configuration and metrics, kept in
            assets.extra/metadata.json; the task's assets stand beside it.
    """
    module = tf.Module()
    module.weights = programs.weights
    tf.saved_model.save(
        module,
        str(folder),
        {name: function.traced for name, function in programs.signatures.items()},
    )
    empty = folder / "assets"
    if empty.is_dir() and not any(empty.iterdir()):
        empty.rmdir()  # it would not survive version control, and nothing reads it
    extra = folder / "assets.extra"
    extra.mkdir()
    assets = programs.serving.assets
    labels = {name: value for name, value in programs.metadata.items() if name not in assets}
    for name, value in {"metadata": {**labels, **facts}, **assets}.items():
        write_json(extra / f"{name}.json", value)
    allowlist.check_saved_model(folder)
