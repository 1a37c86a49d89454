"""A ModelServerConfig (TensorFlow Serving's models.config), and the versions that it asks for."""

from __future__ import annotations

from pathlib import Path

from tfbig.core.errors import UserError


def read(path: Path):
    """A ModelServerConfig from a file of protobuf text."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    try:
        config = text_format.Parse(
            path.read_text("utf-8"), model_server_config_pb2.ModelServerConfig()
        )
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error
    except text_format.ParseError as error:
        raise UserError(f"{path}: is no ModelServerConfig: {error}.") from error
    if config.WhichOneof("config") != "model_config_list":
        raise UserError(f"{path}: expected a model_config_list.")
    return config


def policy_of(model) -> tuple:
    """Which versions a ModelConfig asks for: ("all",), ("latest", count) or ("specific", ...)."""
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific":
        return ("specific", *policy.specific.versions)
    if kind == "all":
        return ("all",)
    return ("latest", policy.latest.num_versions or 1)


def chosen(versions: list[int], policy: tuple) -> list[int]:
    """Those of a model's versions (ascending) that its policy asks for."""
    kind, *numbers = policy
    if kind == "all":
        return versions
    if kind == "specific":
        return [number for number in versions if number in numbers]
    return versions[-numbers[0] :]
