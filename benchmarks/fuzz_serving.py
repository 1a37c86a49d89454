"""Fuzzes the server over REST and gRPC.

Random and structure-aware bodies, good requests beside them.

    python benchmarks/fuzz_serving.py saved_models --count 100000

Says how many bodies were answered with which code, which answers were wrong (a 5xx, a hang, a
broken connection), whether good requests were still answered, and how the server's memory grew.
"""

from __future__ import annotations

import argparse
import base64
import collections
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

RIGHT_HTTP = {200, 400, 403, 404, 405, 413}
RIGHT_GRPC = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "OUT_OF_RANGE",
}
PATHS = ("/v1/models/mnist_mlp:predict",) * 12 + (
    "/v1/models/mnist_mlp/versions/1:predict",
    "/v1/models/mnist_mlp/versions/99999999999999999999:predict",
    "/v1/models/mnist_mlp/labels/stable:predict",
    "/v1/models/mnist_mlp:classify",
    "/v1/models/mnist_mlp:regress",
    "/v1/models/%2e%2e%2f:predict",
    "/v1/models/:predict",
    "/v1//models",
    "/",
)
WRITE = "/v1/completions"
SCALARS = (
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    1e308,
    -1e-320,
    2**31,
    2**63,
    2**64,
    10**400,
    "",
    "a",
    "\x00",
    "é\U0001f600",
    "\ud800",
    float("nan"),
    float("inf"),
)


def value(draw: random.Random, depth: int = 0):
    """A random JSON value."""
    kind = draw.random()
    if depth > 4 or kind < 0.45:
        return draw.choice(SCALARS)
    if kind < 0.75:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind < 0.85:
        return {
            "b64": draw.choice(
                (base64.b64encode(draw.randbytes(draw.randrange(40))).decode(), "%", "A", 5, None)
            )
        }
    return {
        draw.choice(("b64", "image_bytes", "image", "instances", "", "x" * 50)): value(
            draw, depth + 1
        )
        for _ in range(draw.randrange(3))
    }


def picture(draw: random.Random, good: bytes) -> bytes:
    """A damaged or random picture."""
    content = bytearray(good)
    for _ in range(draw.randrange(1, 12)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content[: draw.randrange(len(content))] if draw.random() < 0.3 else content)


def json_body(draw: random.Random, good: bytes) -> tuple[bytes, bool]:
    """A body for REST, and whether it can only be refused."""
    kind = draw.randrange(9)
    if kind == 0:
        return draw.randbytes(draw.randrange(300)), False
    if kind == 1:
        return draw.choice((b"[", b'{"a":', b'{"instances":[')) * draw.randrange(1, 3000), True
    if kind == 2:
        whole = bytearray(good)
        for _ in range(draw.randrange(1, 5)):
            whole[draw.randrange(len(whole))] = draw.randrange(256)
        return bytes(whole), False
    if kind == 3:
        return good[: draw.randrange(len(good))], True
    if kind == 4:
        content = base64.b64decode(json.loads(good)["instances"][0]["b64"])
        return (
            json.dumps(
                {
                    "instances": [
                        {"b64": base64.b64encode(picture(draw, content)).decode()}
                        for _ in range(draw.randrange(1, 4))
                    ]
                }
            ).encode(),
            False,
        )
    if kind == 5:
        line = [[draw.choice((0, 1.5, -2))] for _ in range(28)]
        rows = [
            [line] * 27 + [[[draw.choice((0, None, "x", 1e39, True))]] * draw.choice((28, 27))]
            for _ in range(draw.randrange(1, 3))
        ]
        return (
            json.dumps(
                {
                    "signature_name": draw.choice(("tensors", "serving_default", "", 3)),
                    "instances": rows,
                }
            ).encode(),
            False,
        )
    document = {
        draw.choice(("instances", "inputs", "signature_name", "examples", "context")): value(draw)
        for _ in range(draw.randrange(1, 4))
    }
    return json.dumps(document).encode("utf-8", "surrogatepass"), False


def completion_body(draw: random.Random) -> bytes:
    """A request for text: known and unknown parameters with values that fit and such that do
    not.
    """
    document = {
        "model": draw.choice(("text",) * 6 + ("mnist_mlp", "text/1", "none", "", 5)),
        "max_tokens": draw.choice((1, 2, 8)),
    }
    if draw.random() < 0.7:
        document["prompt"] = draw.choice(
            ("", "a", "\u72ac", "\ud800", "x" * 5000, ["a"], ["a", "b"], None, 5)
        )
    names = (
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "stop",
        "stream",
        "n",
        "echo",
        "logprobs",
        "suffix",
        "user",
        "x",
    )
    for name in draw.sample(names, draw.randrange(4)):
        document[name] = draw.choice((value(draw), 0, 1, 0.5, True, "e"))
    return json.dumps(document).encode("utf-8", "surrogatepass")


def proto_body(draw: random.Random, picture_bytes: bytes) -> bytes:
    """A serialised PredictRequest.

    Random bytes, a damaged message, or a well-formed one with odd content.
    """
    from tensorflow_serving.apis import predict_pb2

    if draw.random() < 0.2:
        return draw.randbytes(draw.randrange(200))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = draw.choice(("mnist_mlp",) * 8 + ("", "none", "../x"))
    request.model_spec.signature_name = draw.choice(("", "", "tensors", "x"))
    if draw.random() < 0.2:
        request.model_spec.version.value = draw.choice((1, -1, 2**62))
    if draw.random() < 0.1:
        request.output_filter.append(draw.choice(("label", "x", "")))
    tensor = request.inputs[draw.choice(("image_bytes", "image_bytes", "image", "x"))]
    tensor.dtype = draw.choice((7, 7, 1, 2, 3, 9, 10, 0, 20, 21, 99, 14))
    for _ in range(draw.randrange(5)):
        tensor.tensor_shape.dim.add(size=draw.choice((0, 1, 1, 2, 28, -1, 2**31, 2**62)))
    tensor.tensor_shape.unknown_rank = draw.random() < 0.05
    kind = draw.randrange(4)
    if kind == 0:
        tensor.tensor_content = draw.randbytes(draw.choice((0, 4, 784, 3136)))
    elif kind == 1:
        tensor.float_val.extend([draw.uniform(-1e30, 1e30) for _ in range(draw.randrange(5))])
    elif kind == 2:
        tensor.string_val.extend([picture(draw, picture_bytes) for _ in range(draw.randrange(3))])
    elif draw.random() < 0.5:
        tensor.int_val.extend([draw.randrange(-(2**31), 2**31) for _ in range(draw.randrange(4))])
    whole = bytearray(request.SerializeToString())
    if draw.random() < 0.3:
        for _ in range(draw.randrange(1, 4)):
            whole[draw.randrange(len(whole))] = draw.randrange(256)
    return bytes(whole)


class Tally:
    """What came back."""

    def __init__(self):
        self.lock, self.codes, self.wrong, self.bodies, self.good, self.good_failed = (
            threading.Lock(),
            collections.Counter(),
            [],
            0,
            0,
            0,
        )

    def add(self, code, right: bool, what: str) -> None:
        with self.lock:
            self.bodies += 1
            self.codes[str(code)] += 1
            if not right:
                self.wrong.append(f"{code}: {what}")


def over_rest(address: str, good: bytes, count: int, seed: int, tally: Tally) -> None:
    draw, link = random.Random(seed), http.client.HTTPConnection(address, timeout=60)
    for _ in range(count):
        body, hopeless = json_body(draw, good)
        path, method = draw.choice(PATHS), draw.choice(("POST",) * 15 + ("GET", "PUT"))
        if draw.random() < 0.1:
            path, body, hopeless = (
                WRITE,
                completion_body(draw) if draw.random() < 0.8 else body,
                False,
            )
        try:
            link.request(method, path, body, {"Content-Type": "application/json"})
            response = link.getresponse()
            response.read()
            right = response.status in RIGHT_HTTP and not (
                hopeless and method == "POST" and response.status == 200
            )
            tally.add(response.status, right, f"{method} {path} {body[:200]!r}")
        except (OSError, http.client.HTTPException) as error:
            tally.add(type(error).__name__, False, f"{method} {path} {body[:200]!r}")
            link.close()
    link.close()


def over_grpc(address: str, picture_bytes: bytes, count: int, seed: int, tally: Tally) -> None:
    import grpc

    draw = random.Random(seed)
    with grpc.insecure_channel(address) as channel:
        raw = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=lambda body: body,
            response_deserializer=lambda body: body,
        )
        for _ in range(count):
            body = proto_body(draw, picture_bytes)
            try:
                raw(body, timeout=60)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
            tally.add(code, code in RIGHT_GRPC, repr(body[:200]))


def keep_asking(address: str, good: bytes, stop: threading.Event, tally: Tally) -> None:
    """Good requests beside the fuzzed ones."""
    link = http.client.HTTPConnection(address, timeout=60)
    while not stop.is_set():
        link.request("POST", "/v1/models/mnist_mlp:predict", good)
        response = link.getresponse()
        response.read()
        tally.good += 1
        tally.good_failed += response.status != 200
        time.sleep(0.01)
    link.close()


def campaign(
    rest: str, grpc_address: str, count: int, seed: int, good: dict, workers: int = 4
) -> dict:
    """Sends `count` bodies, half of them over each protocol, and returns what came back."""
    tally, stop, body = Tally(), threading.Event(), json.dumps(good).encode()
    content = base64.b64decode(good["instances"][0]["b64"])
    half, each = max(1, workers // 2), count // (2 * max(1, workers // 2))
    threads = [
        threading.Thread(target=over_rest, args=(rest, body, each, seed + i, tally))
        for i in range(half)
    ]
    threads += [
        threading.Thread(
            target=over_grpc, args=(grpc_address, content, each, seed + 1000 + i, tally)
        )
        for i in range(half)
    ]
    beside = threading.Thread(target=keep_asking, args=(rest, body, stop, tally))
    beside.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    beside.join()
    return {
        "bodies": tally.bodies,
        "codes": dict(tally.codes.most_common()),
        "wrong": tally.wrong[:20],
        "good": tally.good,
        "good_failed": tally.good_failed,
    }


def memory_mb(process: int) -> float:
    """Resident memory of a process."""
    return (
        int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1])
        * 1024
        / 2**20
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder",
        help="a directory of models with mnist_mlp in it, and perhaps a language model called text",
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=8, help="connections, half of them for each protocol"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are stopped too
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (28, 28), 40).save(buffer, "PNG")
    good = {"instances": [{"b64": base64.b64encode(buffer.getvalue()).decode()}]}
    command = [sys.executable, "-m", "tfbig.serve", given.folder, "--port", "0", "--grpc-port", "0"]
    server = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        line = next(
            json.loads(line)
            for line in server.stderr
            if line.startswith("{") and '"serving"' in line
        )
        threading.Thread(target=server.stderr.read, daemon=True).start()
        rest, address = line["rest"].removeprefix("http://"), line["grpc"]
        started = time.monotonic()
        parts, memory = [], []
        for i in range(10):
            parts.append(
                campaign(
                    rest,
                    address,
                    given.count // 10,
                    given.seed + 1_000_000 * i,
                    good,
                    given.workers,
                )
            )
            memory.append(round(memory_mb(server.pid), 1))
        codes = sum((collections.Counter(part["codes"]) for part in parts), collections.Counter())

        def total(name):
            return sum(part[name] for part in parts)

        print(
            json.dumps(
                {
                    "bodies": total("bodies"),
                    "codes": dict(codes.most_common()),
                    "wrong": [one for part in parts for one in part["wrong"]],
                    "good": total("good"),
                    "good_failed": total("good_failed"),
                    "memory_mb_after_each_tenth": memory,
                    "growth_mb": round(memory[-1] - memory[0], 1),
                    "still_running": server.poll() is None,
                    "seconds": round(time.monotonic() - started, 1),
                },
                indent=1,
            )
        )
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
