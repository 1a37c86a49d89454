"""SavedModel: the artefact that TensorFlow Serving loads."""

from __future__ import annotations

from pathlib import Path

from tfbig.core.files import write_json
from tfbig.core.lazy import tf
from tfbig.deploy import allowlist
from tfbig.deploy.programs import Programs

RAW, READY = "serving_default", "tensors"


def write(programs: Programs, folder: Path, facts: dict) -> None:
    """Writes a SavedModel whose `serving_default` takes raw input and whose `tensors` takes model-ready tensors.

    Args:
        programs: what to save.
        folder: the version's directory.
        facts: JSON values about data, configuration and metrics, kept in assets.extra/metadata.json.
    """
    module = tf.Module()
    module.weights = [variable.value for variable in programs.model.variables]
    signatures = {RAW: programs.raw.traced, READY: programs.ready.traced}
    tf.saved_model.save(module, str(folder), signatures)
    assets = folder / "assets"
    if assets.is_dir() and not any(assets.iterdir()):
        assets.rmdir()  # it would not survive version control, and nothing reads it
    extra = folder / "assets.extra"
    extra.mkdir()
    write_json(extra / "metadata.json", {**programs.metadata, **facts})
    allowlist.check_saved_model(folder)


def signature_tensors(folder: Path, signature: str) -> tuple[dict[str, str], dict[str, str]]:
    """The graph's tensors behind a signature: input names -> tensors, output names -> tensors."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((Path(folder) / "saved_model.pb").read_bytes())
    found = model.meta_graphs[0].signature_def[signature]
    return tuple({name: info.name for name, info in sorted(part.items())} for part in (found.inputs, found.outputs))
