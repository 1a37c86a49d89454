"""A server in a process of its own, models for it, and ways to ask.

For the tests of tfbig.serve.
"""

import base64
import contextlib
import http.client
import io
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

import tfbig
from tfbig.data.mnist import MNIST

SHIPPED = Path(tfbig.__file__).parent.parent / "saved_models" / "mnist_mlp"
SERVE = [sys.executable, "-m", "tfbig.serve"]
P = "/v1/models/mnist_mlp:predict"


class Server:
    """A server in a process of its own on free ports."""

    def __init__(self, folder, *options):
        command = [
            *SERVE,
            str(folder),
            "--port",
            "0",
            "--grpc-port",
            "0",
            "--poll",
            "0.2",
            *map(str, options),
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        started = self.wait_for(lambda event: event["event"] == "serving", 120)
        self.port, self.grpc = int(started["rest"].rpartition(":")[2]), started["grpc"]
        self.channel = grpc.insecure_channel(self.grpc)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def _read(self):
        for line in self.process.stderr:
            with contextlib.suppress(ValueError):
                self.events.append(json.loads(line))

    def wait_for(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [event for event in list(self.events) if condition(event)]
            if found:
                return found[0]
            assert self.process.poll() is None, self.events
            time.sleep(0.02)
        raise AssertionError(f"no such event among {self.events}")

    def ask(self, method, path, body=None, headers=None):
        """(status, JSON or text)."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        link.request(
            method,
            path,
            body if isinstance(body, (bytes, type(None))) else json.dumps(body),
            headers or {},
        )
        response = link.getresponse()
        content, kind = response.read(), response.getheader("content-type")
        link.close()
        return response.status, (
            json.loads(content) if kind == "application/json" else content.decode()
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.channel.close()
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.stdout.read(), self.process.wait(60)
        return self.process.returncode, out


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


class Examples(tf.Module):
    """Signatures for classify and regress: the feature x, doubled, between two labels."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        x = self.read(inputs)
        return {
            "classes": tf.stack([tf.fill(tf.shape(x), "low"), tf.fill(tf.shape(x), "high")], 1),
            "scores": tf.stack([-x, x], 1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        return {"outputs": 2 * self.read(inputs)}

    def read(self, inputs):
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]


def example_model(folder):
    """`regress` declares predict, as TensorFlow 2 does for every signature."""
    made = Examples()
    tf.saved_model.save(
        made,
        str(folder),
        {"serving_default": made.classify, "classify": made.classify, "regress": made.regress},
    )
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    updater.replace_method_name(
        signature_key="classify", method_name="tensorflow/serving/classify", tags="serve"
    )
    updater.save()


def grpc_predict(server, contents, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = spec.get("name", "mnist_mlp")
    request.model_spec.signature_name = spec.get("signature", "")
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    for name, value in contents.items():
        request.inputs[name].CopyFrom(
            value if isinstance(value, TensorProto) else tf.make_tensor_proto(value)
        )
    request.output_filter.extend(spec.get("only", ()))
    return server.predictions.Predict(request, timeout=60)


def some_digits():
    """64 pictures with labels."""
    return MNIST().examples("test", np.arange(64))


def write_models(root):
    """Models of all kinds: a good one, one for examples, one that writes files, one that was
    changed, one that is a zip.
    """
    shutil.copytree(SHIPPED, root / "mnist_mlp")
    example_model(root / "examples" / "1")

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def serve(self, x):
            tf.io.write_file(str(root / "written"), x)
            return {"y": x}

    evil = Evil()
    tf.saved_model.save(evil, str(root / "evil" / "1"), evil.serve)
    changed = (
        shutil.copytree(SHIPPED / "1", root / "changed" / "1")
        / "variables"
        / "variables.data-00000-of-00001"
    )
    content = bytearray(changed.read_bytes())
    content[1000] ^= 1
    changed.write_bytes(content)
    (root / "zipped").mkdir()
    (root / "zipped" / "1").write_bytes(b"PK\x03\x04../../escape")
    (root / "linked").symlink_to(SHIPPED)
    names = ("mnist_mlp", "examples", "evil", "changed", "zipped", "linked")
    labels = {"mnist_mlp": 'version_labels { key: "stable" value: 1 }'}
    listed = (
        f'config {{ name: "{name}" base_path: "/models/{name}" model_version_policy {{ all {{}} }}'
        f" {labels.get(name, '')} }}"
        for name in names
    )
    (root / "models.config").write_text(f"model_config_list {{ {' '.join(listed)} }}")


@contextlib.asynccontextmanager
async def grpc_service(ask, **limits):
    """A gRPC server in this process whose models answer by `ask`.

    Its address, its monitor, its admission.
    """
    from types import SimpleNamespace

    from tensorflow.core.protobuf import meta_graph_pb2

    from tfbig.deploy.server import rpc
    from tfbig.deploy.server.admission import Admission, Limits
    from tfbig.deploy.server.monitoring import Monitor
    from tfbig.deploy.server.servable import Servable

    servable = Servable("m", 1, {"serving_default": meta_graph_pb2.SignatureDef()}, None, {})
    batcher = SimpleNamespace(servable=servable, ask=ask, held=contextlib.nullcontext)
    catalogue = SimpleNamespace(find=lambda *_: batcher)
    monitor, admission = Monitor(), Admission(Limits(**limits))
    server = rpc.build(catalogue, monitor, admission, lambda event, values: None)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", monitor, admission
    finally:
        await server.stop(0)


def predict_request():
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    return request


async def at_once(name, inputs, alone, pixels):
    return {}
