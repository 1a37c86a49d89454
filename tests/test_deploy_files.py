"""The files for TensorFlow Serving, Docker and Kubernetes.

Read by the official messages, and true to what is there.
"""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

import tfbig
from tfbig.deploy import artefact

ROOT = Path(tfbig.__file__).parent.parent / "saved_models"


def config():
    return text_format.Parse(
        (ROOT / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )


def flags():
    """The options both container files give, by name."""
    docker = re.search(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["serving"]["command"]

    def as_dict(words):
        return dict(word.removeprefix("--").split("=", 1) for word in words)

    return as_dict(yaml.safe_load(docker)), as_dict(compose)


def test_models_config_names_what_is_there():
    listed = config().model_config_list.config
    assert len(listed) >= 1
    for one in listed:
        assert one.base_path == f"/models/{one.name}" and one.model_platform == "tensorflow"
        there = artefact.versions(ROOT / one.name)
        # A label stays valid beside newer versions
        assert one.model_version_policy.WhichOneof("policy_choice") == "all"
        assert there and set(one.version_labels.values()) <= set(there)


def unpublished(name, fields, types=()):
    """A message that the official wheel leaves out, with the fields of its .proto.

    Name -> (number, type, repeated).
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto",
        package="check",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message, parts in (*types, (name, fields)):
        made = file.message_type.add(name=message)
        for field, (number, kind, repeated) in parts.items():
            one = made.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                one.type, one.type_name = 11, kind
            else:
                one.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"check.{name}"))


def test_monitoring_config():
    """tensorflow_serving/config/monitoring_config.proto."""
    boolean, text = 8, 9
    prometheus = ("PrometheusConfig", {"enable": (1, boolean, False), "path": (2, text, False)})
    kind = unpublished(
        "MonitoringConfig",
        {"prometheus_config": (1, ".check.PrometheusConfig", False)},
        [prometheus],
    )
    parsed = text_format.Parse((ROOT / "monitoring.config").read_text(), kind())
    assert (
        parsed.prometheus_config.enable
        and parsed.prometheus_config.path == "/monitoring/prometheus/metrics"
    )


def test_batching_config():
    """tensorflow_serving/servables/tensorflow/session_bundle_config.proto, message
    BatchingParameters.
    """
    names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    fields = {name: (i, ".google.protobuf.Int64Value", False) for i, name in enumerate(names, 1)}
    kind = unpublished("BatchingParameters", {**fields, "allowed_batch_sizes": (6, 3, True)})
    parsed = text_format.Parse((ROOT / "batching.config").read_text(), kind())
    allowed = list(parsed.allowed_batch_sizes)
    # As the model server demands
    assert allowed == sorted(allowed) and allowed[-1] == parsed.max_batch_size.value
    assert all(getattr(parsed, name).value > 0 for name in names)


def test_containers_agree():
    docker, compose = flags()
    assert {
        key: value for key, value in compose.items() if key != "model_config_file_poll_wait_seconds"
    } == docker
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["serving"]
    image = re.search(r"^FROM (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert image == service["image"] and re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", image)
    targets = {}
    for volume in service["volumes"]:
        source, target, mode = volume.split(":")
        assert (ROOT / source).exists() and mode == "ro"
        targets[target] = source
    copied = {
        f"/config/{name}" for name in ("models.config", "batching.config", "monitoring.config")
    }
    assert copied | {one.base_path for one in config().model_config_list.config} == set(targets)
    assert {
        docker[key]
        for key in ("model_config_file", "batching_parameters_file", "monitoring_config_file")
    } == copied
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            assert all((ROOT / word).exists() for word in shlex.split(line)[1:-1])


def test_kserve():
    manifest = yaml.safe_load((ROOT / "kserve.yaml").read_text())
    assert (
        manifest["apiVersion"] == "serving.kserve.io/v1beta1"
        and manifest["kind"] == "InferenceService"
    )
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])
    model = manifest["spec"]["predictor"]["model"]
    assert (
        model["modelFormat"]["name"] == "tensorflow"
        and (ROOT / model["storageUri"].rpartition("/")[2]).is_dir()
    )
    assert (
        model["runtimeVersion"] == re.search(r"serving:(\S+)", (ROOT / "Dockerfile").read_text())[1]
    )


def test_readme_names_what_is_there():
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"/v1/models/(\w+)", text):
        assert artefact.versions(ROOT / name)
    assert (
        "labels/stable" not in text
        or "stable" in config().model_config_list.config[0].version_labels
    )
    compile(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], "README.md", "exec")


@pytest.mark.parametrize("name", ["models.config", "compose.yaml", "Dockerfile", "kserve.yaml"])
def test_no_machine_paths(name):
    assert not re.search(r"/(work|tmp|home|root)/", (ROOT / name).read_text())


def test_artefacts_that_said_nothing_of_media_are_read_as_what_they_took():
    record = artefact.read(ROOT / "mnist_mlp" / "1")
    assert record["schema"] == 1 and record["media"]["takes"] == {"image_bytes": "picture"}
    assert record["media"]["forms"] == {"image_bytes": {"shape": [28, 28, 1]}}
    assert set(record["media"]["gives"]) == set(record["signatures"]["serving_default"]["outputs"])
