"""What all tests share.

Their order, memory that stays level, and fixtures of the server's tests. What is heavy is imported
when one is asked for.
"""

import gc
import time

import pytest

MADE_IN_S = 0.5  # a test that is shorter has trained no model


def pytest_collection_modifyitems(items):
    """Long files come first, so that all processes end together."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish():
    """What is imported by now stays to the end.

    Set aside, it costs the collections below nothing.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def level_memory():
    """Trained models are cycles that hold a copy of their data.

    Left to the collector's own pace they pile up to gigabytes. What took no time made none.
    """
    before = time.monotonic()
    yield
    if time.monotonic() - before > MADE_IN_S:
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def brief_measurements():
    """Exports measure their latency for a moment: how long it is, no test asks."""
    from tfbig.deploy import bench

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "MEASURED_S", 0.2)
        yield


@pytest.fixture(scope="module")
def few_digits():
    """MNIST with a tenth of its pictures, where their number is no matter."""
    from tfbig.data import _images
    from tfbig.data.mnist import MNIST

    published, read = {"train": 10_000, "test": 1_000}, MNIST.published_arrays

    def first(data, part):
        return {name: value[: published[part]] for name, value in read(data, part).items()}

    with pytest.MonkeyPatch.context() as patch:
        _images._splits.cache_clear()
        patch.setattr(MNIST, "published", published)
        patch.setattr(MNIST, "published_arrays", first)
        yield
    _images._splits.cache_clear()


@pytest.fixture(scope="module")
def digits():
    """64 pictures with labels."""
    from serving import some_digits

    return some_digits()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory of models, good and bad."""
    from serving import write_models

    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def server(root):
    """A server of these models."""
    from serving import Server

    with Server(root, "--unverified", "--config", root / "models.config") as server:
        yield server
        code, _ = server.stop()
        assert code == 0
