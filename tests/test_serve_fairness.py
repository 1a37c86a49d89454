"""One request does not stop the others.

Its cost is counted before, what takes long goes on beside.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
import zlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from serving import SHIPPED, at_once, grpc_service, predict_request
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from tfbig.core.pictures import MOST_PIXELS
from tfbig.deploy.server import batching, messages, servable
from tfbig.deploy.server.admission import Arrivals, Budget
from tfbig.deploy.server.batching import Batcher
from tfbig.deploy.server.status import Failure


def signature(inputs, outputs):
    """A SignatureDef of float32 tensors: name -> sizes, -1 being free."""
    made = SignatureDef()
    for infos, side in ((inputs, made.inputs), (outputs, made.outputs)):
        for name, sizes in infos.items():
            side[name].dtype = 1
            for size in sizes:
                side[name].tensor_shape.dim.add(size=size)
    return made


def served(call, inputs=None, outputs=None, record=None, **more):
    """A model of one signature that answers by `call`."""
    signatures = {"serving_default": signature(inputs or {"x": [-1]}, outputs or {"y": [-1]})}
    return servable.Servable("m", 1, signatures, call, record or {}, **more)


def rows(*values):
    return {"x": np.array(values, np.float32)}


def test_a_call_that_goes_on_for_long_does_not_keep_the_others():
    go_on, began = threading.Event(), threading.Event()

    def call(name, inputs):
        if inputs["x"][0] < 0:
            began.set()
            assert go_on.wait(20)
        return {"y": inputs["x"] * 2}

    async def look():
        batcher = Batcher(served(call), asyncio.get_running_loop())
        slow = batcher.submit("serving_default", rows(-1))
        assert await asyncio.to_thread(began.wait, 20)
        others = [batcher.submit("serving_default", rows(value)) for value in range(20)]
        answers = await asyncio.wait_for(asyncio.gather(*others), 10)
        assert [answer["y"].tolist() for answer in answers] == [
            [2.0 * value] for value in range(20)
        ] and not slow.done()
        threads = batcher.threads
        batcher.close()
        go_on.set()
        assert (await slow)["y"].tolist() == [-2.0]
        return batcher, threads

    batcher, threads = asyncio.run(look())
    batcher.thread.join(10)
    assert (
        threads == 2
        and not batcher.thread.is_alive()
        and batcher.threads == 0
        and batcher.waiting == 0
    )


def test_a_call_that_never_ends_takes_a_thread_and_no_more_than_there_are():
    go_on = threading.Event()

    def call(name, inputs):
        go_on.wait(20)
        return {"y": inputs["x"]}

    async def look():
        batcher = Batcher(served(call), asyncio.get_running_loop(), most_rows=1)
        asked = [batcher.submit("serving_default", rows(value)) for value in range(8)]
        await asyncio.sleep(batching.SLOW_S * 2 * (batching.MOST_THREADS + 2))
        assert batcher.threads == batching.MOST_THREADS and not any(
            future.done() for future in asked
        )
        batcher.close()
        go_on.set()
        assert [answer["y"].tolist() for answer in await asyncio.gather(*asked)] == [
            [float(value)] for value in range(8)
        ]

    asyncio.run(look())


def test_programs_with_loops_leave_a_thread_to_the_others():
    """Nothing stops a loop once it runs: four of them took all threads of a model for minutes."""
    go_on, order = threading.Event(), []

    def call(name, inputs):
        order.append((name, float(inputs["x"][0])))
        if name == "loop":
            assert go_on.wait(20)
        return {"y": inputs["x"] * 2}

    async def look():
        one = signature({"x": [-1]}, {"y": [-1]})
        operations = {"loop": {"While"}, "short": {"MatMul"}}
        model = servable.Servable(
            "m", 1, {"loop": one, "short": one}, call, {}, operations=operations
        )
        batcher = Batcher(model, asyncio.get_running_loop(), most_rows=1)
        loops = [batcher.submit("loop", rows(value)) for value in range(7)]
        for value in range(3):  # also when all loops that may run have begun
            short = batcher.submit("short", rows(value))
            assert (await asyncio.wait_for(short, 10))["y"].tolist() == [2.0 * value]
            await asyncio.sleep(4 * batching.SLOW_S)
        began = [name for name, _ in order].count("loop")
        assert began == batching.MOST_LONG and not any(future.done() for future in loops)
        loops[5].cancel()
        batcher.close()
        go_on.set()
        answers = await asyncio.gather(*loops, return_exceptions=True)
        answers.pop(5)
        assert [answer["y"].tolist() for answer in answers] == [
            [2.0 * value] for value in (0, 1, 2, 3, 4, 6)
        ]
        return batcher

    batcher = asyncio.run(look())
    batcher.thread.join(10)
    assert not batcher.thread.is_alive() and batcher.threads == batcher.long == 0
    assert batcher.waiting == 0 and ("loop", 5.0) not in order


@pytest.mark.parametrize("pixels", [None, batching.PART_PIXELS + 1])
def test_large_requests_leave_a_thread_to_the_others(pixels):
    """Six of 4,096 pictures each kept a single picture waiting for 7 s."""
    go_on = threading.Event()

    def call(name, inputs):
        if inputs["x"][0] < 0:
            assert go_on.wait(20)
        return {"y": inputs["x"] * 2}

    async def look():
        operations = {"serving_default": {"While", "DecodePng"}}
        batcher = Batcher(served(call, operations=operations), asyncio.get_running_loop())
        values, counted = (rows(-1), np.array([pixels])) if pixels else (rows(*[-1] * 65), None)
        counted = np.zeros(65, np.int64) if counted is None else counted
        large = [batcher.submit("serving_default", values, counted) for _ in range(5)]
        for value in range(3):
            small = batcher.submit("serving_default", rows(value), np.array([784]))
            assert (await asyncio.wait_for(small, 10))["y"].tolist() == [2.0 * value]
            await asyncio.sleep(4 * batching.SLOW_S)
        assert batcher.long == batching.MOST_LONG
        batcher.close()
        go_on.set()
        assert all((answer["y"] == -2).all() for answer in await asyncio.gather(*large))
        assert batcher.pixels.taken == 0

    asyncio.run(look())


@pytest.mark.parametrize(("outputs", "calls"), [({"y": [-1]}, [64, 64, 22]), ({"y": [1]}, [150])])
def test_many_rows_are_answered_in_parts_where_rows_are_answered_alone(outputs, calls):
    sizes = []

    def call(name, inputs):
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"] + 1 if len(calls) > 1 else inputs["x"].sum(keepdims=True)}

    async def look():
        batcher = Batcher(served(call, outputs=outputs), asyncio.get_running_loop())
        answer = await batcher.submit("serving_default", rows(*range(150)))
        batcher.close()
        return answer["y"].tolist()

    answer = asyncio.run(look())
    assert sizes == calls and answer == (
        [value + 1.0 for value in range(150)] if len(calls) > 1 else [150 * 149 / 2]
    )


def test_what_nobody_waits_for_is_left_between_its_parts():
    """Pictures of so many pixels that each is a part; their client goes away at the first one."""
    began, go_on, sizes = threading.Event(), threading.Event(), []

    def call(name, inputs):
        sizes.append(len(inputs["x"]))
        began.set()
        assert go_on.wait(20)
        return {"y": inputs["x"]}

    async def look():
        budget = Budget("pixels", 100 << 20)
        batcher = Batcher(served(call), asyncio.get_running_loop(), pixels=budget)
        asked = batcher.submit("serving_default", rows(*range(6)), np.full(6, 10 << 20))
        with pytest.raises(Failure, match="More than 104,857,600 pixels at once"):
            batcher.submit("serving_default", rows(*range(5)), np.full(5, 10 << 20))
        assert await asyncio.to_thread(began.wait, 20)
        asked.cancel()
        go_on.set()
        while batcher.waiting:
            await asyncio.sleep(0.01)
        assert budget.taken == 0
        batcher.close()

    asyncio.run(look())
    assert sizes == [1]


def test_only_calls_that_take_as_long_as_others_are_made_without_the_queue():
    """Not those whose inputs have free sizes, nor those with loops."""
    fixed, free = {"x": [-1, 3]}, {"x": [-1, -1]}
    steady = [served(None, *given).is_steady("serving_default") for given in ((fixed,), (free,))]
    loops = served(
        None, fixed, operations={"serving_default": {"MatMul", "StatelessWhile"}}
    ).is_steady("serving_default")
    assert (steady, loops) == ([True, False], False)


def header(width, height, before=b""):
    """A PNG's beginning, which says its size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + before
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
    )


def example(*pictures):
    features = {
        f"picture_{i}": tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))
        for i, picture in enumerate(pictures)
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def texts(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_pictures_are_counted_together_where_they_are_decoded():
    """By the operations of the graph: in the signature for pictures and in that for tf.Examples."""
    model = servable.load("m", 1, SHIPPED / "1", "tensorflow", False)
    name, size = "serving_default", 8190
    assert model.check(
        name, {"image_bytes": texts(header(28, 20), b"x", header(size, size))}
    ).tolist() == [560, 0, size**2]
    assert model.check(
        "classify", {"inputs": texts(example(header(28, 20), header(2, 2)))}
    ).tolist() == [564]
    assert model.check("tensors", {"image": np.zeros((2, 28, 28, 1), np.float32)}) is None
    harmless = (
        struct.pack(">I", 13)
        + b"abCd"
        + struct.pack(">II", 28, 28)
        + bytes([8, 0, 0, 0, 0])
        + bytes(4)
    )
    for signature_name, values, words in (
        (
            name,
            texts(*[header(size, size)] * 6),
            f"at most {MOST_PIXELS:,} pixels together in a request. Received: {6 * size**2:,}",
        ),
        (
            name,
            texts(header(16_000, 16_000)),
            "pixels together in a request. Received: 256,000,000",
        ),
        (
            name,
            texts(header(16_000, 16_000, harmless)),
            "expected a PNG that begins with the chunk IHDR",
        ),
        (
            name,
            texts(*[header(2**32 - 1, 2**32 - 1)] * 4096),
            "pixels together in a request. Received: 4,503,599,627,370,496",
        ),
        (
            "classify",
            texts(example(header(size, size), header(size, size))),
            f"Received: {2 * size**2:,}",
        ),
    ):
        with pytest.raises(Failure, match=words) as caught:
            model.check(
                signature_name, {next(iter(model.signatures[signature_name].inputs)): values}
            )
        assert caught.value.code == "INVALID_ARGUMENT"


def test_rows_are_bounded_and_what_they_become_is_counted():
    """A message of a few bytes repeats one number; each row of the answer is a cache."""
    model = served(None, {"x": [-1, -1]}, {"logits": [-1, 50], "cache": [-1, 4, 256, 64]})
    proto = TensorProto(dtype=1, float_val=[1.0])
    for size in (4_000_000, 1):
        proto.tensor_shape.dim.add(size=size)
    assert len(proto.SerializeToString()) < 67
    with pytest.raises(Failure, match="expected at most 4096 rows in a request. Received: 4000000"):
        model.check("serving_default", messages.arrays({"x": proto}, 64 << 20))
    assert model.answer_bytes(
        "serving_default", {"x": np.zeros((100, 1), np.float32)}
    ) == 100 * 4 * (50 + 4 * 256 * 64)
    written = served(None, record={"by_place": ["serving_default"]})
    with pytest.raises(
        Failure, match="expected at most 64 rows in a request. Received: 65"
    ):  # they cannot be answered in parts
        written.check("serving_default", rows(*range(65)))


def test_what_a_graph_asserts_is_answered_in_its_own_words():
    @tf.function
    def graph(x):
        tf.debugging.Assert(x < 5, ["x: expected less than 5"])
        return x

    def call(name, inputs):
        return {"y": graph(tf.constant(inputs["x"][0]))}

    with pytest.raises(Failure) as caught:
        served(call).run("serving_default", rows(7))
    assert caught.value.message == "x: expected less than 5"


def test_inputs_of_unequal_rows_are_refused():
    """A graph might answer for fewer rows than were sent."""
    inputs = {"x": np.zeros((2, 3), np.float32), "y": np.zeros(1, np.float32)}
    words = "expected inputs of equally many rows. Received: 2 of x, 1 of y."
    for shapes, is_refused in (
        ({"x": [-1, -1], "y": [-1]}, True),
        ({"x": [-1, 3], "y": [-1]}, True),
        ({"x": [-1, 3], "y": [1]}, False),
    ):
        expected = pytest.raises(Failure, match=words) if is_refused else contextlib.nullcontext()
        with expected:
            served(None, shapes).check("serving_default", inputs)
    scalar = {**inputs, "y": np.float32(1)}
    served(None, {"x": [-1, 3], "y": []}).check("serving_default", scalar)


@pytest.mark.parametrize(
    ("inputs", "values", "refused"),
    [
        ({"text": [-1]}, texts(b"x" * 600_000, b"y" * 500_000), "1,100,000"),
        ({"tokens": [-1, -1]}, np.zeros((2, 150_000), np.float32), "1,200,000"),
        ({"pixels": [-1, 784]}, np.zeros((400, 784), np.float32), None),  # rows of one size
    ],
)
def test_what_a_loop_goes_through_is_bounded(inputs, values, refused):
    """Nothing stops a loop inside a graph: 8 MB of text to score kept a model busy for 27 s."""
    (name,) = inputs
    model = served(None, inputs, operations={"serving_default": {"While"}})
    if values.dtype == object:
        model.signatures["serving_default"].inputs[name].dtype = 7  # DT_STRING
        model.dtypes["serving_default"][name] = np.dtype(object)
    model.check("serving_default", {name: values[:1]})
    if refused is None:
        model.check("serving_default", {name: values})
        return
    with pytest.raises(Failure, match=f"at most 1,048,576 bytes .* Received: {refused}. Send"):
        model.check("serving_default", {name: values})


def test_a_context_is_not_copied_into_countless_examples():
    from tensorflow_serving.apis import input_pb2

    from tfbig.deploy.server import examples

    given = input_pb2.Input()
    held = given.example_list_with_context
    held.context.features.feature["x"].bytes_list.value.append(b"x" * 100_000)
    for _ in range(1000):
        held.examples.add()
    with pytest.raises(Failure, match="context: expected at most 67,108,864 bytes"):
        examples.serialised(given)
    for _ in range(4000):
        given.example_list.examples.add()
    for _ in range(97):
        given.example_list.examples.add()
    with pytest.raises(Failure, match="at most 4096 examples in a request. Received: 4097"):
        examples.serialised(given)


def test_messages_that_do_not_come_lose_their_places_to_others():
    async def look():
        arrivals, order = Arrivals(2, 5.0, 0.2), []

        async def stall(name):
            try:
                async with arrivals.place():
                    order.append(name)
                    await asyncio.Event().wait()
            except Failure as failure:
                order.append(failure.code)

        stalled = [asyncio.create_task(stall(i)) for i in range(3)]
        await asyncio.sleep(0)
        began = time.monotonic()
        async with arrivals.place():  # the latest comes first
            order.append("quick")
        assert time.monotonic() - began < 2
        await asyncio.sleep(0.1)
        for task in stalled:
            task.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)
        assert not arrivals.coming and not arrivals.waiting
        return order

    order = asyncio.run(look())
    assert order[:2] == [0, 1] and "DEADLINE_EXCEEDED" in order and "quick" in order
    assert 2 not in order or order.index("quick") < order.index(2)


def test_messages_that_are_coming_take_bounded_memory_and_keep_nobody_out():
    """More streams than there are places stop before their end.

    A request beside them is answered.
    """
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    async def look():
        async with contextlib.AsyncExitStack() as stack:
            address, _, _ = await stack.enter_async_context(
                grpc_service(at_once, body=1 << 20, bodies=4 << 20, at_once=64)
            )
            stalled = await stack.enter_async_context(
                grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            calls = [
                stalled.stream_unary("/tensorflow.serving.PredictionService/Predict")()
                for _ in range(12)
            ]
            await asyncio.gather(*(call.wait_for_connection() for call in calls))
            other = await stack.enter_async_context(
                grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            began = time.monotonic()
            answer = await prediction_service_pb2_grpc.PredictionServiceStub(other).Predict(
                predict_request(), timeout=20
            )
            assert answer.model_spec.name == "m" and time.monotonic() - began < 5
            for call in calls:
                call.cancel()

    asyncio.run(look())


def test_an_answer_that_nobody_reads_is_given_up(monkeypatch):
    import uvicorn

    from tfbig.deploy.server import connections

    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.2)
    ended = []

    async def application(scope, receive, send):
        head = {"type": "http.response.start", "status": 200, "headers": []}
        await send(head)
        for _ in range(64):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        ended.append((await receive())["type"])

    async def look():
        protocol = connections.BoundedProtocol
        config = uvicorn.Config(
            application, port=0, http=protocol, ws="none", lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        address = server.servers[0].sockets[0].getsockname()
        with socket.create_connection(address) as link:
            link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while not ended:
                await asyncio.sleep(0.02)
        server.should_exit = True
        await asyncio.wait_for(task, 20)

    asyncio.run(asyncio.wait_for(look(), 20))
    assert ended == ["http.disconnect"]
