"""The server at work: versions that come and go, its page in a browser, tokens, draining."""

import asyncio
import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import chromium
import grpc
import pytest
import tensorflow as tf
from PIL import Image
from serving import SHIPPED, P, Server, b64, grpc_predict, png
from tensorflow_serving.apis import predict_pb2

from tfbig.deploy.server import completions, json_answers


def test_labels_wait_for_their_model(tmp_path):
    from tfbig.deploy.server.catalogue import Catalogue

    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "late" version_labels { key: "old" value: 1 }'
        " model_version_policy { specific { versions: 1 } } } }"
    )
    events = []
    catalogue = Catalogue(
        tmp_path, "tensorflow", False, lambda event, values: events.append((event, values)), config
    )

    async def look():
        await catalogue.refresh()
        shutil.copytree(SHIPPED, tmp_path / "late")
        shutil.copytree(SHIPPED / "1", tmp_path / "late" / "2")
        await catalogue.refresh()
        assert catalogue.find("late", label="old").servable.version == 1 and catalogue.states(
            "late"
        ) == [(1, "AVAILABLE", "")]
        shutil.rmtree(tmp_path / "late")
        await catalogue.refresh()
        catalogue.close()

    asyncio.run(look())
    assert [(event, values["version"]) for event, values in events] == [
        ("loaded", 1),
        ("unloaded", 1),
    ]


def test_changes_wait_for_each_other(tmp_path, monkeypatch):
    """A configuration that comes while the poll loads.

    And one whose sender goes away while it loads.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    from tfbig.deploy.server import servable
    from tfbig.deploy.server.catalogue import Catalogue

    go_on = threading.Event()

    def load(name, number, *_):
        assert go_on.wait(20)
        return servable.Servable(name, number, {}, None, {})

    monkeypatch.setattr(servable, "load", load)
    for number in ("1", "2"):
        (tmp_path / "m" / number).mkdir(parents=True)
        (tmp_path / "m" / number / "file").write_text("x")
    latest = text_format.Parse(
        'model_config_list { config { name: "m" } }', model_server_config_pb2.ModelServerConfig()
    )

    async def look():
        catalogue = Catalogue(tmp_path, "tensorflow", False, lambda event, values: None)
        gone = asyncio.create_task(catalogue.refresh())
        await asyncio.sleep(0.05)
        gone.cancel()
        poll = asyncio.create_task(catalogue.refresh())
        await asyncio.sleep(0.05)
        change = asyncio.create_task(catalogue.refresh(latest))
        await asyncio.sleep(0.05)
        assert catalogue.configured is None and not change.done()
        go_on.set()
        await asyncio.gather(poll, change)
        assert gone.cancelled() and catalogue.states("m") == [(2, "AVAILABLE", "")]
        await catalogue.refresh(
            text_format.Parse("model_config_list {}", model_server_config_pb2.ModelServerConfig())
        )
        assert not catalogue.entries
        catalogue.close()

    asyncio.run(look())


def write_folders(root, *names):
    """Models of one version with a file in it."""
    for name in names:
        (root / name / "1").mkdir(parents=True)
        (root / name / "1" / "file").write_text("x")


@pytest.mark.parametrize(
    ("files", "single"),
    [
        (("1/saved_model.pb", "2/saved_model.pb"), True),
        (("1/saved_model.pb", "backup/1/saved_model.pb"), True),
        (("a/1/saved_model.pb", "2024/notes.txt"), False),
        (("a/1/saved_model.pb", "2024/1/saved_model.pb"), False),
        (("1/being_copied.tmp",), True),
    ],
)
def test_a_number_alone_makes_no_version(tmp_path, files, single):
    """A folder named by a number among models made the server offer it alone."""
    from tfbig.deploy.server.catalogue import Catalogue

    for file in files:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    catalogue = Catalogue(tmp_path, "tensorflow", False, lambda event, values: None)
    assert catalogue.single == (tmp_path.name if single else None)


def test_what_changes_under_a_server_is_seen(tmp_path, monkeypatch):
    """A root that is a link leads elsewhere later; a version with other files is said once."""
    from tfbig.deploy.server import servable
    from tfbig.deploy.server.catalogue import Catalogue

    monkeypatch.setattr(
        servable, "load", lambda name, number, *_: servable.Servable(name, number, {}, None, {})
    )
    write_folders(tmp_path / "old", "a")
    write_folders(tmp_path / "new", "a", "b")
    (tmp_path / "current").symlink_to("old")
    said = []

    async def look():
        catalogue = Catalogue(
            tmp_path / "current",
            "tensorflow",
            False,
            lambda event, values: said.append((event, values)),
        )
        await catalogue.refresh()
        (tmp_path / "old" / "a" / "1" / "file").write_text("another one")
        await catalogue.refresh()
        await catalogue.refresh()
        (tmp_path / "current").unlink()
        (tmp_path / "current").symlink_to("new")
        await catalogue.refresh()
        names = sorted(catalogue.entries)
        catalogue.close()
        return names

    assert asyncio.run(look()) == ["a", "b"]
    first, *_ = replaced = [values for event, values in said if event == "replaced"]
    assert first["model"] == "a" and first["error"].startswith(
        "its files changed; served as it was"
    )
    assert len(replaced) == 2  # by other content, then through the link


def test_what_cannot_be_read_is_skipped_and_said_once(tmp_path, monkeypatch):
    """A folder of the file system's own, as lost+found; and one whose name is no UTF-8."""
    from tfbig.deploy.server import servable
    from tfbig.deploy.server.catalogue import Catalogue

    def load(name, number, *_):
        if name == "odd":
            raise ValueError("no such file: \udcff")
        return servable.Servable(name, number, {}, None, {})

    def list_folder(self):
        if self.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(self))
        return iterdir(self)

    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", list_folder)  # root may read everything
    monkeypatch.setattr(servable, "load", load)
    write_folders(tmp_path, "a", "lost+found", "z", "odd", os.fsdecode(b"b\xff"))
    said = []

    async def look():
        catalogue = Catalogue(
            tmp_path, "tensorflow", False, lambda event, values: said.append((event, values))
        )
        await catalogue.refresh()
        await catalogue.refresh()
        listed = json_answers.dumps(completions.models(catalogue))
        states = catalogue.states("odd")
        catalogue.close()
        return listed, states

    listed, states = asyncio.run(look())
    assert [model["id"] for model in json.loads(listed)["data"]] == ["a", "z"]
    assert states == [(1, "END", "ValueError: no such file: \\udcff")]
    skipped = {values["folder"]: values["error"] for event, values in said if event == "skipped"}
    assert skipped == {
        str(tmp_path / "lost+found"): "cannot be read: Permission denied",
        f"{tmp_path}/b\\udcff": "its name is no UTF-8, so nobody could ask for it",
    }
    assert [event for event, _ in said].count("skipped") == 2
    json.dumps([values for _, values in said], ensure_ascii=False).encode()


def test_a_model_that_never_loads_stops_neither_others_nor_the_server(tmp_path, monkeypatch):
    from tfbig.deploy.server import catalogue as module
    from tfbig.deploy.server import servable

    end = threading.Event()

    def load(name, number, *_):
        if name == "loops":
            end.wait()
        return servable.Servable(name, number, {}, None, {})

    monkeypatch.setattr(servable, "load", load)
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    write_folders(tmp_path, "loops")
    said = []

    async def look():
        catalogue = module.Catalogue(
            tmp_path,
            "tensorflow",
            False,
            lambda event, values: said.append((event, values)),
            loading_s=1.0,
        )
        began = time.monotonic()
        await catalogue.refresh()
        write_folders(tmp_path, "other")
        await catalogue.refresh()
        assert (
            catalogue.find("other")
            and catalogue.states("loops") == [(1, "LOADING", "")]
            and time.monotonic() - began < 0.9
        )
        while catalogue.entries["loops"].versions[1].loading:
            await asyncio.sleep(0.02)
        await catalogue.refresh()  # not tried again
        ((_, state, error),) = catalogue.states("loops")
        assert state == "END" and "was not loaded within 1 s" in error
        catalogue.close()

    asyncio.run(look())
    end.set()
    assert [(event, values["model"]) for event, values in said] == [
        ("loaded", "other"),
        ("refused", "loops"),
    ]


def test_what_is_served_without_a_configuration_and_with_one(tmp_path):
    """All models and versions, whatever a models.config beside them says.

    And by the model server's rules when asked for one.
    """
    from tfbig.deploy.server.catalogue import Catalogue
    from tfbig.deploy.server.status import Failure

    shutil.copytree(SHIPPED, tmp_path / "digits")
    shutil.copytree(SHIPPED / "1", tmp_path / "digits" / "2")
    shutil.copytree(SHIPPED, tmp_path / "other")
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "digits" model_version_policy { specific { versions: 1'
        " } } } }"
    )
    said = []

    async def served(change=None, **asked):
        catalogue = Catalogue(
            tmp_path,
            "tensorflow",
            False,
            lambda event, values: said.append((event, values)),
            **asked,
        )
        await catalogue.refresh()
        if change is not None:
            config.write_text(change)
            await catalogue.refresh()
        found = {
            (name, number) for name, entry in catalogue.entries.items() for number in entry.versions
        }
        if asked:
            with pytest.raises(Failure, match=r"Latest\(other\)"):
                catalogue.find("other")
        catalogue.close()
        return found

    assert asyncio.run(served()) == {("digits", 1), ("digits", 2), ("other", 1)}
    assert asyncio.run(served(config=config)) == {("digits", 1)}
    latest = 'model_config_list { config { name: "digits" } }'
    assert asyncio.run(served(change=latest, config=config)) == {("digits", 2)}
    # Nothing changes by a broken one
    assert asyncio.run(served(change="model_config_list {", config=config)) == {("digits", 2)}
    assert any(
        event == "refused" and "is no ModelServerConfig" in values["error"]
        for event, values in said
    )


def test_hot_reload_without_a_failed_request(server, root, digits):
    body, stop, statuses = {"instances": [b64(png(digits["image"][0]))]}, threading.Event(), []

    def keep_asking():
        while not stop.is_set():
            statuses.append(server.ask("POST", P, body)[0])

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in (2, 3):
            beside = shutil.copytree(SHIPPED / "1", root / "mnist_mlp" / f".{number}")
            beside.rename(root / "mnist_mlp" / str(number))
            server.wait_for(
                lambda event, n=number: (
                    event["event"] == "loaded"
                    and event["model"] == "mnist_mlp"
                    and event["version"] == n
                )
            )
            assert (
                grpc_predict(
                    server, {"image_bytes": [png(digits["image"][0])]}
                ).model_spec.version.value
                == number
            )
            (root / "mnist_mlp" / str(number)).rename(root / "mnist_mlp" / f".gone_{number}")
            server.wait_for(
                lambda event, n=number: event["event"] == "unloaded" and event["version"] == n
            )
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(statuses) > 20 and set(statuses) == {200}


@pytest.mark.skipif(chromium.BINARY is None, reason="no Chromium here")
def test_page_in_a_browser(server, tmp_path, digits):
    Image.fromarray(digits["image"][1, ..., 0]).save(tmp_path / "digit.png")

    async def look():
        async with chromium.Browser(tmp_path / "profile") as browser:
            await browser.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
            names = await browser.wait_for(
                "document.querySelectorAll('#model option').length >= 2 &&"
                " [...document.querySelectorAll('#model option')].map(o => o.text).join('|')"
            )
            assert "mnist_mlp, version 1" in names and "evil" not in names
            index = names.split("|").index("mnist_mlp, version 1")
            await browser.evaluate(
                f"at('model').selectedIndex = {index}; at('model').dispatchEvent(new"
                " Event('change'))"
            )
            pad = "document.querySelector('.pad')"
            box = json.loads(
                await browser.evaluate(f"JSON.stringify({pad}.getBoundingClientRect())")
            )
            answered = "document.querySelector('.label')?.textContent"
            # A one
            side = box["width"] / 280
            points = [(box["x"] + 140 * side, box["y"] + (50 + i * 6) * side) for i in range(30)]
            await browser.draw(points)
            assert await browser.wait_for(answered) == "1"
            bars = await browser.evaluate("document.querySelector('.bars').innerText")
            assert bars.count("%") == 5 and "answered in" in await browser.evaluate(
                "at('time').textContent"
            )
            if os.environ.get("TFBIG_SCREENSHOT"):
                await browser.screenshot(Path(os.environ["TFBIG_SCREENSHOT"]))
            await browser.evaluate(f"{pad}.focus()")
            await browser.key("Delete")
            assert await browser.evaluate("at('answer').textContent") == ""
            for key in ["ArrowUp"] * 9:
                await browser.key(key)
            for key in ["ArrowDown"] * 18:
                await browser.key(key, shift=True)
            await browser.key("Enter")
            assert await browser.wait_for(answered) == "1"
            document = await browser.call("DOM.getDocument")
            node = (
                await browser.call(
                    "DOM.querySelector",
                    nodeId=document["root"]["nodeId"],
                    selector="#file_image_bytes",
                )
            )["nodeId"]
            await browser.call(
                "DOM.setFileInputFiles", files=[str(tmp_path / "digit.png")], nodeId=node
            )
            await browser.wait_for(f"{answered} === '{digits['label'][1]}'")
            unnamed = await browser.evaluate(
                "[...document.querySelectorAll('select, input, textarea')].filter(e =>"
                " !document.querySelector(`label[for=${e.id}]`)).length"
            )
            assert unnamed == 0

    asyncio.run(look())


def drain(server, digits, token):
    body, allowed = (
        {"instances": digits["image"][:4].tolist()},
        {"Authorization": f"Bearer {token}"},
    )
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
        assert server.ask("POST", P, body, headers)[0] == 401
        assert server.ask("GET", "/v1/models/mnist_mlp", None, headers)[0] == 401
    assert server.ask("GET", "/healthz")[0] == 200
    status, answer = server.ask("POST", P, body, allowed)
    assert status == 200
    expected = tf.saved_model.load(str(SHIPPED / "1")).signatures["serving_default"](
        image_bytes=tf.constant([png(p) for p in digits["image"][:4]])
    )
    server.wait_for(
        lambda event: (
            event["event"] == "request"
            and event["status"] == 200
            and event["path"] == P
            and event["ms"] > 0
        )
    )
    assert not any(token in json.dumps(event) for event in server.events)
    assert [str(row["label"]) for row in answer["predictions"]] == [
        text.decode() for text in expected["label"].numpy()
    ]
    assert server.ask("POST", P, {"instances": [[[[256]]]]}, allowed)[0] == 400  # no uint8
    with pytest.raises(grpc.RpcError) as caught:
        grpc_predict(server, {"image": digits["image"][:1]})
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mnist_mlp"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(digits["image"][:1]))
    answered = server.predictions.Predict(
        request, timeout=60, metadata=[("authorization", f"Bearer {token}")]
    )
    assert tf.make_ndarray(answered.outputs["logits"]).shape == (1, 10)
    # A request that is under way when the signal comes
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        content = json.dumps(body).encode()
        link.sendall(
            f"POST {P} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length:"
            f" {len(content)}\r\n\r\n".encode()
            + content[:100]
        )
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(lambda event: event["event"] == "draining")
        link.sendall(content[100:])
        assert link.recv(1000).startswith(b"HTTP/1.1 200")
    code, _ = server.stop()
    assert code == 0
    with pytest.raises(OSError):
        server.ask("GET", "/healthz")


def test_token_onnx_and_drain(digits, tmp_path):
    token = "a-token-of-24-characters"
    (tmp_path / "token").write_text(token + "\n")
    with Server(
        SHIPPED, "--engine", "onnx", "--token-file", tmp_path / "token", "--log-requests"
    ) as server:
        drain(server, digits, token)
