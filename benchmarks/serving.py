"""The server beside a plain FastAPI handler with onnxruntime and beside calls in process, in one
run, interleaved.

    python benchmarks/serving.py MODELS --models mnist_mlp,mnist_cnn,mnist_vit
    python benchmarks/serving.py MODELS --models mnist_mlp --reloads 100

MODELS is a directory of artefacts exported with --format onnx. Every request is one picture as JSON
numbers, the same bytes for both servers; both answer with all outputs of the same model.onnx.
Needs: pip install fastapi.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

PLAIN = """
import sys
import numpy as np, onnxruntime, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

session = onnxruntime.InferenceSession(sys.argv[1])
names = [output.name for output in session.get_outputs()]
app = FastAPI()

class Body(BaseModel):
    instances: list[list[list[list[int]]]]

@app.post("/predict")
def predict(body: Body):
    outputs = session.run(names, {"image": np.array(body.instances, np.uint8)})
    rows = range(len(body.instances))
    named = list(zip(names, outputs))
    return {"predictions": [{name: value[i].tolist() for name, value in named} for i in rows]}

uvicorn.run(app, port=int(sys.argv[2]), log_level="critical", access_log=False)
"""


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def start_ours(folder: Path, *options: str):
    """The server's process and REST port."""
    command = [
        sys.executable,
        "-m",
        "tfbig.serve",
        str(folder),
        "--port",
        "0",
        "--grpc-port",
        "none",
        *options,
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    events: list[dict] = []
    for line in process.stderr:
        if line.startswith("{"):
            events.append(json.loads(line))
            if events[-1]["event"] == "serving":
                break
    threading.Thread(
        target=lambda: [
            events.append(json.loads(line)) for line in process.stderr if line.startswith("{")
        ],
        daemon=True,
    ).start()
    return process, int(events[-1]["rest"].rpartition(":")[2]), events


def start_plain(onnx: Path):
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", PLAIN, str(onnx), str(port)])
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the plain handler did not start; is fastapi installed?")


async def connection(
    port: int, request: bytes, until: float, times: list[float], failed: list[bytes]
) -> None:
    """Asks again and again over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (before := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        times.append(time.perf_counter() - before)
        if not head.startswith(b"HTTP/1.1 200"):
            failed.append(head[:40] + body[:200])
    writer.close()


def load(port: int, path: str, body: bytes, connections: int, seconds: float) -> dict:
    """Requests per second and latency in milliseconds."""
    request = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
        f" application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    times: list[float] = []
    failed: list[bytes] = []

    async def all_of_them():
        until = time.perf_counter() + seconds
        await asyncio.gather(
            *(connection(port, request, until, times, failed) for _ in range(connections))
        )

    import uvloop

    before = time.perf_counter()
    uvloop.run(all_of_them())
    p50, p99 = np.percentile(times, (50, 99)) * 1e3
    return {
        "per_s": len(times) / (time.perf_counter() - before),
        "p50_ms": p50,
        "p99_ms": p99,
        "failed": len(failed),
    }


def in_process(call, seconds: float) -> dict:
    times, until = [], time.perf_counter() + seconds
    while (before := time.perf_counter()) < until:
        call()
        times.append(time.perf_counter() - before)
    p50, p99 = np.percentile(times, (50, 99)) * 1e3
    return {"per_s": len(times) / sum(times), "p50_ms": p50, "p99_ms": p99, "failed": 0}


def compare(folder: Path, name: str, rounds: int, seconds: float) -> dict:
    """One model: every way and number of connections, in turn, `rounds` times; medians."""
    import onnxruntime
    import tensorflow as tf

    version = max(
        folder.joinpath(name).iterdir(),
        key=lambda path: int(path.name) if path.name.isdigit() else -1,
    )
    session = onnxruntime.InferenceSession(str(version / "model.onnx"))
    shape = [int(n) for n in session.get_inputs()[0].shape[1:]]
    image = np.random.RandomState(0).randint(0, 256, [1, *shape], dtype=np.uint8)
    loaded = tf.saved_model.load(str(version))
    ready, signature = tf.zeros([1, *shape]), loaded.signatures["tensors"]
    body = json.dumps({"instances": image.tolist()}).encode()
    ours, our_port, _ = start_ours(folder / name, "--engine", "onnx")
    tensorflow, tf_port, _ = start_ours(folder / name)
    plain, plain_port = start_plain(version / "model.onnx")
    tf_body = json.dumps(
        {"signature_name": "tensors", "instances": image.astype(float).tolist()}
    ).encode()
    path = f"/v1/models/{name}:predict"
    ways = {
        ("onnxruntime, in process", 1): lambda: in_process(
            lambda: session.run(None, {"image": image}), seconds / 2
        ),
        ("SavedModel, in process", 1): lambda: in_process(
            lambda: signature(image=ready), seconds / 2
        ),
    }
    for connections in (1, 8, 64):
        ways[("plain FastAPI + onnxruntime", connections)] = lambda c=connections: load(
            plain_port, "/predict", body, c, seconds
        )
        ways[("tfbig.serve --engine onnx", connections)] = lambda c=connections: load(
            our_port, path, body, c, seconds
        )
        ways[("tfbig.serve, SavedModel", connections)] = lambda c=connections: load(
            tf_port, path, tf_body, c, seconds
        )
    found: dict = {way: [] for way in ways}
    try:
        for way in ways.values():
            way()  # warm
        for _ in range(rounds):
            for key, way in ways.items():
                found[key].append(way())
    finally:
        for process in (ours, tensorflow, plain):
            process.terminate()
            process.wait(60)
    return {
        key: {part: statistics.median(one[part] for one in many) for part in many[0]}
        for key, many in found.items()
    }


def show(name: str, found: dict) -> None:
    print(
        f"{name}\n{'':30} {'connections':>11} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8}"
        f" {'failed':>7}"
    )
    for (way, connections), one in found.items():
        print(
            f"{way:30} {connections:>11} {one['per_s']:>11,.0f} {one['p50_ms']:>8.3f}"
            f" {one['p99_ms']:>8.3f} {one['failed']:>7.0f}"
        )
    ours, plain = "tfbig.serve --engine onnx", "plain FastAPI + onnxruntime"
    overhead = found[(ours, 1)]["p50_ms"] - found[("onnxruntime, in process", 1)]["p50_ms"]
    print(
        f"over onnxruntime in process, p50, 1 connection: {overhead:.3f} ms (plain:"
        f" {found[(plain, 1)]['p50_ms'] - found[('onnxruntime, in process', 1)]['p50_ms']:.3f} ms)"
    )
    for c in (1, 8, 64):
        one, other = found[(ours, c)], found[(plain, c)]
        print(
            f"{c} connections: {one['per_s'] / other['per_s']:.2f} x the plain handler's"
            f" requests/s, {one['p99_ms'] / other['p99_ms']:.2f} x its p99",
            flush=True,
        )


def reloads(folder: Path, name: str, count: int) -> dict:
    """New versions under load.

    Each is put in place, waited for, and the one before is taken away.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / name
        source = max(
            (folder / name).iterdir(),
            key=lambda path: int(path.name) if path.name.isdigit() else -1,
        )
        shutil.copytree(source, root / "1")
        process, port, events = start_ours(root, "--poll", "0.05")
        body = json.dumps(
            {"signature_name": "tensors", "instances": np.zeros((1, 28, 28, 1)).tolist()}
        ).encode()
        result: dict = {}
        asking = threading.Thread(
            target=lambda: result.update(
                load(port, f"/v1/models/{name}:predict", body, 8, float(result["seconds"]))
            )
        )
        result["seconds"] = max(20.0, count * 0.6)
        asking.start()
        done, started = 0, time.monotonic()
        while asking.is_alive() and done < count:
            number = done + 2
            shutil.copytree(source, root / f".{number}")
            (root / f".{number}").rename(root / str(number))
            while asking.is_alive() and not any(
                e["event"] == "loaded" and e["version"] == number for e in events
            ):
                time.sleep(0.01)
            (root / str(number - 1)).rename(root / f".gone_{number - 1}")
            shutil.rmtree(root / f".gone_{number - 1}")
            done += 1
        under_load = time.monotonic() - started
        asking.join()
        process.terminate()
        process.wait(60)
        unloaded = sum(e["event"] == "unloaded" for e in events)
        return {
            "reloads": done,
            "unloaded": unloaded,
            "seconds": round(under_load, 1),
            "requests": round(result["per_s"] * result["seconds"]),
            "failed": result["failed"],
            "p99_ms": round(float(result["p99_ms"]), 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--models",
        default="mnist_mlp,mnist_cnn,mnist_vit",
        help="names, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument(
        "--reloads", type=int, default=0, help="count hot reloads under load instead"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are stopped too
    if given.reloads:
        print(json.dumps(reloads(given.folder, given.models.split(",")[0], given.reloads)))
        return
    for name in given.models.split(","):
        show(name, compare(given.folder, name, given.rounds, given.seconds))


if __name__ == "__main__":
    main()
