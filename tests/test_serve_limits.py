"""What the server refuses or bounds: harmful models, too much, too slow, too strange."""

import asyncio
import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from serving import (
    SERVE,
    SHIPPED,
    P,
    at_once,
    b64,
    grpc_service,
    png,
    predict_request,
)
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_management_pb2

import tfbig
from tfbig import serve as door
from tfbig.deploy.server import run
from tfbig.deploy.server.catalogue import Catalogue


def test_harmful_and_changed_models_are_refused_beside_good_ones(server, root):
    refused = {
        event["model"]: event["error"]
        for event in server.events
        if event["event"] == "refused" and "model" in event
    }
    assert (
        "operation WriteFile writes files" in refused["evil"] and "(sha256)" in refused["changed"]
    )
    assert set(refused) == {"evil", "changed"} and not (root / "written").exists()
    assert server.ask("POST", "/v1/models/evil:predict", {"instances": ["x"]})[0] == 404
    status, answer = server.ask("GET", "/v1/models/changed")
    assert (
        answer["model_version_status"][0]["state"] == "END"
        and "sha256" in answer["model_version_status"][0]["status"]["error_message"]
    )
    for name in ("zipped", "linked"):
        assert server.ask("GET", f"/v1/models/{name}")[0] == 404
    assert not list(root.parent.rglob("escape"))


def test_config_cannot_lead_out_of_the_directory(server):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(
        'model_config_list { config { name: "other" base_path: "/etc" } }', request.config
    )
    with pytest.raises(grpc.RpcError) as caught:
        server.models.HandleReloadConfigRequest(request, timeout=60)
    assert (
        caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        and "A path outside of it cannot be served" in caught.value.details()
    )


def test_one_bad_request_in_a_batch_fails_alone(server, digits):
    bodies = [{"instances": [b64(png(picture))]} for picture in digits["image"]]
    for i in range(0, 64, 8):
        bodies[i] = {"instances": [b64(b"no picture")]}
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(lambda body: server.ask("POST", P, body)[0], bodies))
    assert statuses == [400 if i % 8 == 0 else 200 for i in range(64)]


def test_limits(server):
    assert server.ask("POST", P, b"x" * (9 << 20))[0] == 413
    # No length given: it is counted while it comes
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(
            f"POST {P} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        with contextlib.suppress(OSError):
            for _ in range(10):
                link.sendall(piece)
        assert link.recv(100).startswith(b"HTTP/1.1 413")
    assert server.ask("GET", "/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize("start", ["1\r\nx\r\n0\r\n", "1\r\nx\r\n0\r\nA: ", "1;"])
def test_what_comes_instead_of_a_body_is_bounded(server, start):
    """Lines behind a body, a long one, a long comment on a chunk."""
    more = b"x" * (1 << 16) if start[-2:] != "\r\n" else b"A: b\r\n" * (1 << 13)
    head = f"POST {P} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as link:
        link.sendall((head + start).encode())
        with pytest.raises(OSError):
            for _ in range(1000):
                link.sendall(more)
    assert server.ask("GET", "/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize(("requests", "answered"), [(50, True), (5000, False)])
def test_requests_ahead_of_their_answers_are_bounded(server, requests, answered):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as link:
        answer, ask = b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        with contextlib.suppress(OSError):
            link.sendall((ask + b"\r\n") * (requests - 1) + ask + b"Connection: close\r\n\r\n")
            while piece := link.recv(1 << 16):
                answer += piece
    assert (answer.count(b"200 OK") == requests) == answered
    assert answered or answer.count(b"200 OK") < 500


def test_long_and_unfinished_heads_are_refused(server, monkeypatch):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as link:
        answer = b""
        with contextlib.suppress(OSError):
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
            for _ in range(64):
                link.sendall(b"A: " + b"x" * 4000 + b"\r\n")
            answer = link.recv(1000)
        assert not answer or answer.startswith(b"HTTP/1.1 400")
    assert server.ask("GET", "/healthz") == (200, {"status": "ok"})
    from tfbig.deploy.server import connections

    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "CONNECTIONS", 2)
    asyncio.run(slow_heads(connections.BoundedProtocol))


async def slow_heads(protocol):
    """Over a server with short limits.

    No head, an unfinished head, a second unfinished head, one connection too many.
    """
    import uvicorn

    answering = asyncio.Event()

    async def application(scope, receive, send):
        if scope["path"] == "/slow":
            await answering.wait()
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
        )
        await send({"type": "http.response.body", "body": b"ok"})

    server = uvicorn.Server(
        uvicorn.Config(
            application, port=0, http=protocol, ws="none", lifespan="off", log_config=None
        )
    )
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    whole, half = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost"
    for sent, answered in ((b"", False), (half, False), (whole + half, True)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.endswith(b"ok") == answered and bool(answer) == answered
        writer.close()
    links = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for _, writer in links:
        writer.write(whole)
    assert [await asyncio.wait_for(reader.readuntil(b"ok"), 20) for reader, _ in links]
    # The one that has been idle for longest makes room, but none on which something is answered
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    links[0][1].write(slow)
    await asyncio.sleep(0.05)
    links.append(await asyncio.open_connection("127.0.0.1", port))
    assert await asyncio.wait_for(links[1][0].read(), 20) == b""
    links[2][1].write(slow)
    await asyncio.sleep(0.05)
    links.append(await asyncio.open_connection("127.0.0.1", port))
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(links[3][0].read(), 20) == b""
    answering.set()
    for reader, _ in (links[0], links[2]):
        assert await asyncio.wait_for(reader.readuntil(b"ok"), 20)
    for _, open_writer in links:
        open_writer.close()
    server.should_exit = True
    await asyncio.wait_for(task, 20)


def put(application, pieces, pause=0.0, length=None):
    """Gives an application a POST whose body comes in pieces and then no more.

    Returns the messages it sends.
    """
    sent, waiting = [], list(pieces)

    async def receive():
        if not waiting:
            await asyncio.Event().wait()
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": True}

    async def send(message):
        sent.append(message)

    headers = [(b"content-length", str(length).encode())] if length else []
    scope = {"type": "http", "method": "POST", "raw_path": b"/elsewhere", "headers": headers}
    asyncio.run(asyncio.wait_for(application(scope, receive, send), 20))
    return sent


def test_bodies_that_do_not_come_are_given_up():
    from tfbig.deploy.server.admission import Admission, Limits
    from tfbig.deploy.server.rest import Rest

    quick = Admission(Limits(patience_s=0.1, pace=1000))
    # Nothing; a pause; too slow
    for pieces, pause in (([], 0), ([b"x" * 5000], 0), ([b"x"] * 1000, 0.03)):
        sent = put(Rest(None, None, quick, None, None), pieces, pause, 100_000)
        assert (
            sent[0]["status"] == 408
            and b"The body did not come" in sent[1]["body"]
            and (b"connection", b"close") in sent[0]["headers"]
        )
        assert quick.running == quick.held == 0
    late = Admission(Limits(seconds=0.2, patience_s=10, pace=1))
    assert (
        put(Rest(None, None, late, None, None), [b"x"] * 1000, 0.01)[0]["status"] == 408
        and late.held == 0
    )
    full = Admission(Limits(bodies=3000))
    assert (
        put(Rest(None, None, full, None, None), [b"x" * 1000] * 4)[0]["status"] == 429
        and full.held == 0
    )


def test_requests_whose_body_is_coming_take_no_place():
    from tfbig.deploy.server.admission import Admission, Limits
    from tfbig.deploy.server.status import Failure

    admission = Admission(Limits(at_once=1, patience_s=30))

    async def look():
        pieces = asyncio.Queue()
        stalled = [asyncio.create_task(admission.read([], pieces.get)) for _ in range(8)]
        await asyncio.sleep(0)
        admission.enter()
        with pytest.raises(Failure, match="More than 1 requests at once"):
            admission.enter()
        admission.leave()
        for _ in stalled:
            pieces.put_nowait({"type": "http.request", "body": b"{}"})
        assert await asyncio.gather(*stalled) == [b"{}"] * 8 and admission.held == 16
        for _ in stalled:
            admission.release(b"{}")
        assert admission.held == admission.running == 0

    asyncio.run(look())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost"}, 200),
        ({"Host": "127.0.0.1:9000", "Origin": "http://127.0.0.1:9000"}, 200),
        ({"Host": "[::1]:8501"}, 200),
        ({"Host": "rebound.example:8501"}, 403),
        ({"Host": "localhost.rebound.example"}, 403),
        ({"Host": "[oh"}, 403),
        ({"Host": "localhost", "Origin": "http://rebound.example"}, 403),
        ({"Host": "localhost:8501", "Origin": "http://localhost:3000"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
    ],
)
def test_other_names_and_pages_of_others_are_refused(server, headers, status):
    for method, path, body in (
        ("GET", "/healthz", None),
        ("GET", "/", None),
        ("GET", "/v1/models/mnist_mlp", None),
        ("POST", P, {"instances": []}),
    ):
        found, answer = server.ask(method, path, body, headers)
        assert found == (400 if status == 200 and method == "POST" else status)
        if found == 403:
            assert "because this server asks for no token" in answer["error"]


def test_grpc_calls_whose_message_does_not_come():
    """Their places are not those of others.

    There are more of them than requests may be answered at once.
    """
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    async def look():
        async with contextlib.AsyncExitStack() as stack:
            address, _, admission = await stack.enter_async_context(
                grpc_service(at_once, at_once=2)
            )
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(
                        address, options=[("grpc.use_local_subchannel_pool", 1)]
                    )
                )
                for _ in range(4)
            ]
            calls = [
                channel.stream_unary("/tensorflow.serving.PredictionService/Predict")()
                for channel in channels[:3]
                for _ in range(2)
            ]
            await asyncio.gather(*(call.wait_for_connection() for call in calls))
            await asyncio.sleep(0.2)
            assert not any(call.done() for call in calls) and admission.running == 0
            answer = await prediction_service_pb2_grpc.PredictionServiceStub(channels[3]).Predict(
                predict_request(), timeout=20
            )
            assert answer.model_spec.name == "m"
            for call in calls:
                call.cancel()

    asyncio.run(look())


def test_grpc_calls_given_up_are_not_counted_as_answered():
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    async def never(name, inputs, alone, pixels):
        await asyncio.Event().wait()

    async def look():
        async with (
            grpc_service(never) as (address, monitor, admission),
            grpc.aio.insecure_channel(address) as channel,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(
                    predict_request(), timeout=0.3
                )
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            for _ in range(200):
                if monitor.requests:
                    break
                await asyncio.sleep(0.02)
            assert (
                dict(monitor.requests) == {("", "GRPC", "Predict", "CANCELLED"): 1}
                and admission.held == admission.running == 0
            )

    asyncio.run(look())


def test_inputs_are_bounded_together():
    from tfbig.deploy.server import messages
    from tfbig.deploy.server.status import Failure

    proto = TensorProto(dtype=1, float_val=[1.0])
    proto.tensor_shape.dim.add(size=1000)
    assert set(messages.arrays({"a": proto, "b": proto}, 8000)) == {"a", "b"}
    with pytest.raises(Failure, match="is larger than"):
        messages.arrays({"a": proto, "b": proto}, 7999)


def test_large_grpc_requests_keep_nobody_waiting():
    """Names are checked before anything is made of inputs, of which there may be half a million;
    what a large message holds is looked through beside the others."""
    from types import SimpleNamespace

    from tfbig.deploy.server.admission import Admission, Limits
    from tfbig.deploy.server.rpc import Service
    from tfbig.deploy.server.servable import Servable
    from tfbig.deploy.server.status import Failure

    signature = meta_graph_pb2.SignatureDef()
    signature.inputs["x"].dtype = 7
    signature.inputs["x"].tensor_shape.dim.add(size=-1)
    servable = Servable("m", 1, {"serving_default": signature}, None, {})
    batcher = SimpleNamespace(servable=servable, ask=at_once, held=contextlib.nullcontext)
    service = Service(SimpleNamespace(find=lambda *_: batcher), Admission(Limits()))
    wrong, large = predict_request(), predict_request()
    wrong.inputs["no such"].dtype = 10_000
    large.inputs["x"].CopyFrom(tf.make_tensor_proto([b"x" * (1 << 19)]))

    async def look():
        with pytest.raises(Failure, match="Sent extra: {no such}"):
            await service.predict(wrong)
        go_on = threading.Event()
        servable.check = lambda *_: go_on.wait(60)
        running = asyncio.create_task(service.predict(large))
        await asyncio.sleep(0.05)  # which would wait, too
        go_on.set()
        await running

    started = time.monotonic()
    asyncio.run(look())
    assert time.monotonic() - started < 30


def test_examples_with_a_context_count_as_they_are(monkeypatch):
    """A context stands in each of them: of 10 bytes, in 1000 examples."""
    from types import SimpleNamespace

    from tensorflow_serving.apis import classification_pb2

    from tfbig.deploy.server import examples
    from tfbig.deploy.server.admission import Admission, Limits
    from tfbig.deploy.server.rpc import Service
    from tfbig.deploy.server.status import Failure

    request = classification_pb2.ClassificationRequest()
    held = request.input.example_list_with_context
    held.context.features.feature["a"].bytes_list.value.append(b"x" * 1000)
    for _ in range(1000):
        held.examples.add()

    def prepare(*given):
        return "m", {examples.INPUTS: examples.serialised(given[-1])}

    monkeypatch.setattr(examples, "prepare", prepare)
    servable = SimpleNamespace(check=lambda *_: None, answer_bytes=lambda *_: 0)
    batcher = SimpleNamespace(servable=servable, held=contextlib.nullcontext)
    service = Service(SimpleNamespace(find=lambda *_: batcher), Admission(Limits(bodies=1_000_000)))
    request.model_spec.name = "m"
    with pytest.raises(Failure, match="would take 1,0.* bytes, more than 1,000,000"):
        asyncio.run(service.classify(request))


def test_arrays_of_grpc_count_until_they_are_answered():
    """A message of a few bytes that repeats one number is as large as its array."""
    from types import SimpleNamespace

    from tensorflow_serving.apis import predict_pb2

    from tfbig.deploy.server.admission import Admission, Limits
    from tfbig.deploy.server.rpc import Service
    from tfbig.deploy.server.servable import Servable
    from tfbig.deploy.server.status import Failure

    signature = meta_graph_pb2.SignatureDef()
    signature.inputs["x"].dtype = 1
    signature.inputs["x"].tensor_shape.dim.add(size=-1)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(TensorProto(dtype=1, float_val=[1.0]))
    request.inputs["x"].tensor_shape.dim.add(size=1000)

    async def look():
        go_on, admission = asyncio.Event(), Admission(Limits(bodies=10_000))

        async def ask(name, inputs, alone, pixels):
            await go_on.wait()
            return {"y": inputs["x"][:1]}

        batcher = SimpleNamespace(
            servable=Servable("m", 1, {"serving_default": signature}, None, {}),
            ask=ask,
            held=contextlib.nullcontext,
        )
        service = Service(SimpleNamespace(find=lambda *_: batcher), admission)
        running = [asyncio.create_task(service.predict(request)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert admission.held == 8000
        with pytest.raises(Failure, match="More than 10000 bytes of requests at once") as caught:
            await service.predict(request)
        assert caught.value.code == "RESOURCE_EXHAUSTED" and admission.held == 8000
        go_on.set()
        await asyncio.gather(*running)
        assert admission.held == 0

    asyncio.run(look())


def test_a_large_body_is_read_beside_the_others(server):
    """Slow to read, and wrong at its very end: others are answered meanwhile."""
    row = b"[" + b"1.5, 2, " * 150 + b"3],"
    body = b'{"signature_name": "tensors", "instances": [' + row * 4000 + b'"x"]}'
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.ask, "POST", P, body)
        during = 0
        while not slow.done():
            assert server.ask("GET", "/healthz")[0] == 200
            during += not slow.done()
        status, answer = slow.result()
    assert status == 400 and "Failed to process element: 4000 " in answer["error"] and during >= 2


def test_a_port_that_is_taken_is_the_users_to_change(server):
    taken = server.port, server.grpc.rpartition(":")[2]
    for ports in (
        ("--port", taken[0], "--grpc-port", "0"),
        ("--port", "0", "--grpc-port", taken[1]),
    ):
        done = subprocess.run(
            list(map(str, [*SERVE, SHIPPED, *ports])), capture_output=True, text=True, timeout=120
        )
        told = [line for line in done.stderr.splitlines() if line]
        assert (
            done.returncode == 2
            and len(told) == 1
            and "cannot listen there: Address already in use. Choose another one." in told[0]
        )


def test_fuzzed_bodies(server, digits):
    """A small share of benchmarks/fuzz_serving.py, by a fixed seed.

    No crash, no 5xx, good requests still answered.
    """
    import sys as system

    system.path.insert(0, str(Path(tfbig.__file__).parent.parent / "benchmarks"))
    import fuzz_serving

    good = {"instances": [b64(png(digits["image"][0]))]}
    result = fuzz_serving.campaign(
        f"127.0.0.1:{server.port}", server.grpc, count=600, seed=7, good=good, workers=4
    )
    assert result["bodies"] == 600 and result["good_failed"] == 0 and result["good"] > 0
    assert result["wrong"] == [] and server.process.poll() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such directory"),
        (["EMPTY"], "nothing in it can be served"),
        (["EMPTY", "--host", "0.0.0.0"], "Give --token-file FILE, or --insecure"),
        (
            ["EMPTY", "--engine", "torch"],
            "--engine: expected tensorflow or onnx. Received: 'torch'",
        ),
        (["EMPTY", "--port", "99999"], "port"),
        (["EMPTY", "--token-file", "nowhere"], "--token-file nowhere: cannot be read"),
        (["EMPTY", "--config", "nowhere"], "nowhere: cannot be read"),
        (["EMPTY", "--poll", "0"], "--poll: expected more than 0"),
        (
            ["EMPTY", "--port", "9000", "--grpc-port", "9000"],
            "--grpc-port: expected another port than --port",
        ),
        (["EMPTY", "--port", "70000"], "argument --port: expected 0 to 65535. Received: '70000'"),
        (["EMPTY", "--max-body", "3000"], "--max-body: expected less than 2048"),
        (
            ["EMPTY", "--max-body", "2047", "--config", "CONFIG"],
            "absent: CONFIG names it, but EMPTY holds no version of it",
        ),
    ],
)
def test_mistakes(arguments, message, tmp_path, capsys):
    paths = {"EMPTY": str(tmp_path), "CONFIG": str(tmp_path / "models.config")}
    (tmp_path / "models.config").write_text('model_config_list { config { name: "absent" } }')
    free = [] if "--port" in arguments else ["--port", "0", "--grpc-port", "0"]
    assert door.main([paths.get(word, word) for word in (*arguments, *free)]) == 2
    assert message in capsys.readouterr().err.replace(paths["CONFIG"], "CONFIG").replace(
        paths["EMPTY"], "EMPTY"
    )


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_models_are_loaded_is_not_lost(tmp_path, monkeypatch, signum):
    async def load(self):
        os.kill(os.getpid(), signum)
        await asyncio.sleep(60)

    monkeypatch.setattr(Catalogue, "refresh", load)
    events, started = [], time.monotonic()
    assert run.serve(
        run.Settings(tmp_path, port=0, grpc_port=None), lambda event, _: events.append(event)
    ) == {"answered": 0}
    assert events == ["stopped"] and time.monotonic() - started < 50


def test_a_log_that_nobody_reads_stops_nothing(monkeypatch):
    """A pipe that is full, a disk that is: lines are lost, and counted."""
    from tfbig.deploy.server import events

    monkeypatch.setattr(events, "MOST_LINES", 20)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    log = events.Log(writing)

    def read_all():
        pieces, waiting = [], True
        while waiting:
            waiting = log._lines.unfinished_tasks  # before the last look
            with contextlib.suppress(BlockingIOError):
                pieces.append(os.read(reading, 1 << 20))
        return b"".join(pieces)

    for _ in range(200):
        log("event", {"text": "x" * 4000})
    lines = read_all().splitlines()
    assert 20 <= len(lines) < 200
    log("last", {"half": "\udc80"})
    last = json.loads(read_all().splitlines()[-1])
    assert last["event"] == "last" and last["lines_lost"] == 200 - len(lines)
    with Path("/dev/full").open("wb") as full:
        log = events.Log(full.fileno())
        for _ in range(3):
            log("event", {})
        log.flush()
        assert log._lost == 3


def test_a_refusal_that_quotes_what_is_no_text_is_the_clients():
    """TensorFlow's own message holds bytes of what was sent: not UTF-8, and no fault of ours."""
    from tfbig.deploy.server.servable import Servable
    from tfbig.deploy.server.status import Failure

    def call(key, inputs):
        return {"samples": tf.audio.decode_wav(tf.constant(inputs["wav"]))[0]}

    servable = Servable("m", 1, {"serving_default": meta_graph_pb2.SignatureDef()}, call, {})
    with pytest.raises(Failure, match=r"Expected RIFF but found \\xff") as failure:
        servable.run("serving_default", {"wav": b"\xff" * 99})
    assert failure.value.code == "INVALID_ARGUMENT"
