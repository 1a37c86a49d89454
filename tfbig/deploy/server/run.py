"""Runs the server: loads, listens, looks for new versions, and drains when asked to stop."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import tf
from tfbig.deploy.server.admission import Admission, Limits
from tfbig.deploy.server.batching import ANSWERING
from tfbig.deploy.server.catalogue import LOADING_S, Catalogue
from tfbig.deploy.server.completions import Completions
from tfbig.deploy.server.events import Log, quiet
from tfbig.deploy.server.loading import BESIDE
from tfbig.deploy.server.monitoring import Monitor
from tfbig.deploy.server.rest import Rest

# Between collections of what refers to itself, such as failed requests and their tracebacks
TIDY_S = 5.0
END_S = 10.0  # beyond the time to drain, after which a process ends whatever still runs in it
# TensorFlow's, for all models. By default there are as many as cores, and as few long ones stop
# all.
OPERATIONS_AT_ONCE = 32
OTHER_FILES = 1024  # that the process may have open beside its connections
# Of the time to drain that streams may go on for; what is left is for telling their readers
STREAM_SHARE = 0.75


@dataclass(frozen=True)
class Settings:
    """How to serve.

    Attributes:
        root: the directory of models.
        host, port, grpc_port: where to listen; port 0 takes a free one, grpc_port None leaves gRPC
            out.
        engine: "tensorflow" or "onnx".
        config: a ModelServerConfig that chooses models, versions and labels; None serves all there
            are.
        unverified: serve models without artefact.json, their operations checked all the same.
        poll_s: seconds between looks for new versions.
        loading_s: seconds for loading one model; longer ones are given up.
        drain_s: seconds that running requests have to finish when the server stops.
        log_requests: one line for each REST request too, not only for events.
        read_assets: see Completions; None: nothing is written step by step.
        limits: see Limits.
    """

    root: Path
    host: str = "127.0.0.1"
    port: int = 8501
    grpc_port: int | None = 8500
    engine: str = "tensorflow"
    config: Path | None = None
    unverified: bool = False
    poll_s: float = 2.0
    loading_s: float = LOADING_S
    drain_s: float = 20.0
    log_requests: bool = False
    read_assets: Callable | None = None
    limits: Limits = field(default_factory=Limits)


def serve(settings: Settings, say: Callable | None = None) -> dict:
    """Serves until SIGTERM or SIGINT; returns how many requests were answered.

    `say` is told events as (event, values); None: they are lines on stderr.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it would say, our errors say
    with contextlib.suppress(RuntimeError):  # TensorFlow runs already, in whatever calls this
        tf.config.threading.set_inter_op_parallelism_threads(OPERATIONS_AT_ONCE)
    tf.constant(0)
    try:
        import orjson  # noqa: F401
        import tensorflow_serving  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"serve: needs {error.name}, not installed. Run pip install 'tfbig[serve]'."
        ) from error
    log = Log()
    say = say or log
    quiet("uvicorn.error")
    last = threading.Timer(settings.drain_s + END_S, _end, (say, log))
    last.daemon = True
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    code = 1
    try:
        answered = run(_serve(settings, say, last))
        code = 0
        return answered
    except UserError:
        code = 2
        raise
    finally:
        last.cancel()
        log.flush()
        atexit.register(_leave, code)


def _allow_files(number: int) -> None:
    """Lets the process open so many files if it may.

    Each connection is one, and models need some.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave(code: int) -> None:
    """Ends the process as it stands if a thread is still in a model.

    Python's own end would abort.
    """
    if any(thread.name.startswith((BESIDE, ANSWERING)) for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def _end(say: Callable, log: Log) -> None:
    """Ends the process at once: something in it does not end by itself."""
    say("killed", {"error": f"It did not end within {END_S:g} s beyond the time to drain."})
    log.flush()
    os._exit(1)


async def _serve(settings: Settings, say, last: threading.Timer) -> dict:
    from tfbig.deploy.server import rpc
    from tfbig.deploy.server.connections import CONNECTIONS

    _allow_files(2 * CONNECTIONS + OTHER_FILES)
    listening = _bound(settings.host, settings.port)
    if settings.grpc_port:  # gRPC binds it again when there is something to serve
        _bound(settings.host, settings.grpc_port, "--grpc-port").close()
    catalogue = Catalogue(
        settings.root,
        settings.engine,
        settings.unverified,
        say,
        settings.config,
        settings.loading_s,
    )
    monitor = Monitor()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # From here on, not only once it serves: an interrupt that is raised while models are loaded can
    # be lost in what it interrupts.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop, last)
    stopping = asyncio.ensure_future(stop.wait())
    if not await _load_first(catalogue, stop, stopping):
        catalogue.close()
        say("stopped", {"answered": 0})
        return {"answered": 0}
    _spare_collector()
    _check_serves(catalogue, settings, say)
    admission = Admission(settings.limits)
    written = Completions(catalogue, admission, settings.read_assets)
    application = Rest(catalogue, monitor, admission, written, say, settings.log_requests)
    server = _rest_server(application, settings)
    _listen(listening, settings)
    remote = grpc_port = None
    if settings.grpc_port is not None:
        remote = rpc.build(catalogue, monitor, admission, say)
        grpc_port = _bind(remote, settings)
        await remote.start()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    beside = [
        asyncio.create_task(_poll(catalogue, settings.poll_s, say)),
        asyncio.create_task(_tidy()),
    ]
    host = _in_address(settings.host)
    addresses = {
        "rest": f"http://{host}:{listening.getsockname()[1]}",
        "grpc": f"{host}:{grpc_port}" if grpc_port else None,
    }
    say("serving", {**addresses, "models": catalogue.served()})
    await stopping
    say("draining", {"running": admission.running, "streams": written.running})
    written.ends = loop.time() + STREAM_SHARE * settings.drain_s
    application.draining = True
    server.should_exit = True
    for task in beside:
        task.cancel()
    if remote:
        await remote.stop(settings.drain_s)
    await serving
    catalogue.close()
    answered = sum(monitor.requests.values())
    say("stopped", {"answered": answered})
    return {"answered": answered}


async def _load_first(catalogue: Catalogue, stop: asyncio.Event, stopping: asyncio.Future) -> bool:
    """Waits for the first models; whether they came before the server was asked to stop."""
    loading = asyncio.ensure_future(catalogue.first())
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        loading.cancel()
        return False
    await loading
    return True


def _spare_collector() -> None:
    """Lets Python's garbage collector run seldom."""
    # Requests are trees of lists that reference counting frees. Walking all of TensorFlow's objects
    # for them, which the default thresholds make the collector do many times a second, took most of
    # the time under load.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _check_serves(catalogue: Catalogue, settings: Settings, say) -> None:
    """Raises UserError if no model can be served; says which configured ones are absent."""
    absent = [
        f"{name}: {settings.config} names it, but {settings.root} holds no version of it that it"
        " asks for."
        for name, entry in catalogue.entries.items()
        if not entry.versions
    ]
    if not catalogue.serves():
        reasons = absent + [
            f"{name}/{number}: {version.error}"
            for name, entry in catalogue.entries.items()
            for number, version in entry.versions.items()
        ]
        if not reasons:
            reasons = ["Expected NAME/VERSION/..., as python -m tfbig.export writes them."]
        catalogue.close()
        raise UserError("\n".join([f"{settings.root}: nothing in it can be served.", *reasons]))
    for reason in absent:
        say("absent", {"error": reason})


def _rest_server(application: Rest, settings: Settings):
    """uvicorn's server of the application, not yet listening."""
    import uvicorn

    from tfbig.deploy.server.connections import IDLE_SECONDS, BoundedProtocol

    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(settings.drain_s) or 1,
    )
    server = uvicorn.Server(config)
    # Signals are ours: health goes down before the door closes
    server.capture_signals = contextlib.nullcontext
    return server


def _stop(stop: asyncio.Event, last: threading.Timer) -> None:
    if not stop.is_set():
        stop.set()
        last.start()


def _bound(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that refuses connections until it listens.

    A port that is taken is told before models are loaded.
    """

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            f"--host {host} {option} {port}: cannot listen there:"
            f" {getattr(error, 'strerror', None) or error}. Choose another one."
        ) from error
    listener.setblocking(False)
    return listener


def _listen(made: socket.socket, settings: Settings) -> None:
    try:
        made.listen(1024)
    except OSError as error:  # another one was faster
        raise UserError(
            f"--host {settings.host} --port {settings.port}: cannot listen there: {error.strerror}."
            " Choose another one."
        ) from error


def _in_address(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _bind(server, settings: Settings) -> int:
    try:
        return server.add_insecure_port(f"{_in_address(settings.host)}:{settings.grpc_port}")
    except RuntimeError as error:
        raise UserError(
            f"--grpc-port {settings.grpc_port}: cannot listen there. Choose another one, or"
            " --grpc-port none."
        ) from error


async def _tidy() -> None:
    """Keeps memory level by collecting often.

    By the thresholds above, tens of thousands of requests would come between two collections.
    """
    while True:
        await asyncio.sleep(TIDY_S)
        gc.collect()


async def _poll(catalogue: Catalogue, seconds: float, say) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await catalogue.refresh()
        except (
            Exception
        ) as error:  # a directory that vanishes while it is read; the next look goes on
            say("error", {"error": f"{type(error).__name__}: {error}"})
