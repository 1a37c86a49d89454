"""Several workers over Keras Tuner's own protocol.

The chief hands out trials, workers ask it for them.

On one machine the chief starts its workers and starts them again when they die. On a cluster, Keras
Tuner's environment variables give every process its role: KERASTUNER_TUNER_ID ("chief" or
any other name), KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT (the chief's); all of them see the
search directory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

from tfbig.core.errors import Interrupted, RunFailure, UserError
from tfbig.core.interrupt import watch_signals
from tfbig.core.lazy import tf
from tfbig.core.workers import cores
from tfbig.tuning import oracles
from tfbig.tuning.chief import LEASE_SECONDS, Chief
from tfbig.tuning.search import Search

POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 5.0
PATIENCE_SECONDS = 600.0  # how long a worker waits for a chief that does not answer
SAVING_SECONDS = 60.0  # how long workers that are asked to stop may take
MOST_DEATHS = 3
NOT_HEARD = f"was not heard from for {LEASE_SECONDS:.0f} s"
SHORT_OF_MEMORY = (
    ", probably because memory ran out. It needs less with a smaller train.batch_size or model, or"
    " with fewer tune.workers"
)
VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def role() -> str | None:
    """This process's role by Keras Tuner's environment variables: "chief", "worker" or None."""
    present = [name for name in VARIABLES if os.environ.get(name)]
    if present and len(present) < len(VARIABLES):
        missing = [name for name in VARIABLES if name not in present]
        raise UserError(f"{', '.join(missing)}: expected to be set as well, since {present[0]} is.")
    if not present:
        return None
    return "chief" if "chief" in os.environ[VARIABLES[0]] else "worker"


@contextlib.contextmanager
def served(chief: Chief, address: str) -> Iterator[int]:
    """Serves the chief at an address "host:port" while it lasts, and yields the port.

    Port 0 takes any free one.
    """
    oracles.tuner_package()
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(chief), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise UserError(f"{address}: cannot be served: {error}.") from error
    server.start()
    try:
        yield port
    finally:
        server.stop(1).wait()


def lead(chief: Chief, note: Callable[[str], None]) -> None:
    """The chief of a cluster: serves until every worker knows that there is nothing more to do."""
    with served(chief, f"{os.environ[VARIABLES[1]]}:{os.environ[VARIABLES[2]]}"):
        note(f"waiting for workers at {os.environ[VARIABLES[1]]}:{os.environ[VARIABLES[2]]}")
        while not chief.is_over():
            time.sleep(POLL_SECONDS)
            if chief.error is not None:
                raise chief.error
            lose_silent(chief, note)


def lose_silent(chief: Chief, note: Callable[[str], None]) -> None:
    """Takes back the trials of workers that are no longer heard from."""
    for name in chief.silent():
        trial = chief.lost(name, NOT_HEARD)
        if trial:
            note(f"{name} {NOT_HEARD} while training trial {trial}; others go on with it")
            _note_failure(chief, trial, note)


def lead_here(search: Search, chief: Chief, note: Callable[[str], None]) -> None:
    """The chief of this machine: starts tune.workers workers, and those again that die or hang.

    The chief's own process never trains, since a trial may end its process: most often the system
    does, because memory has run out. A worker that is lost takes nothing else with it: started
    again under its name, it gets its trial back and resumes from its checkpoint; a trial that ends
    it again has failed.

    Raises:
        Interrupted: a signal asked to stop; the workers have saved and are gone.
        RunFailure: workers cannot be started, or have no space to write to.
    """
    with (
        watch_signals() as signals,
        served(chief, "127.0.0.1:0") as port,
        contextlib.ExitStack() as stack,
    ):
        team = _Team(search, chief, port, note)
        stack.callback(team.stop)
        while team.processes:
            time.sleep(POLL_SECONDS)
            if signals.received:
                raise Interrupted(signals.received, 0)
            if chief.error is not None:
                raise chief.error
            team.tend()


class _Team:
    """The worker processes of this machine, by their names.

    Attributes:
        processes: those that are at work, or will be started again.
        deaths: how often each one ended in a row without a trial.
    """

    def __init__(self, search: Search, chief: Chief, port: int, note: Callable[[str], None]):
        self.search, self.chief, self.port, self.note = search, chief, port, note
        self.deaths: dict[str, int] = {}
        self.processes = {
            f"worker{number}": _start(search, number, port) for number in range(search.tune.workers)
        }

    def tend(self) -> None:
        """Ends workers that hang, and starts those again that ended before the search was over."""
        hung = [name for name in self.chief.silent() if name in self.processes]
        for name in hung:
            self.processes[name].kill()
            self.processes[name].wait()
        for name, process in list(self.processes.items()):
            code = process.poll()
            if code == 0:
                del self.processes[name]
            elif code == os.EX_IOERR:
                raise RunFailure(
                    f"{name} had no space left to write to, as it said above. {self.search.remedy}"
                )
            elif name in hung:
                self._replace(name, NOT_HEARD, "")
            elif code is not None:
                cause = SHORT_OF_MEMORY if code == -signal.SIGKILL else ""
                self._replace(name, _how_it_ended(code), cause)

    def _replace(self, name: str, how: str, cause: str) -> None:
        """Starts a worker again under its name, so that it gets its trial back."""
        trial = self.chief.lost(name, how, cause)
        during = f" while training trial {trial}" if trial else ""
        self.note(f"{name} {how}{during}; it is started again")
        _note_failure(self.chief, trial, self.note)
        self.deaths[name] = 0 if trial else self.deaths.get(name, 0) + 1
        if self.deaths[name] == MOST_DEATHS:
            raise RunFailure(
                f"{name} {how} {MOST_DEATHS} times without a trial. {self.search.remedy}"
            )
        number = int(name.removeprefix("worker"))
        self.processes[name] = _start(self.search, number, self.port)

    def stop(self) -> None:
        """Asks the workers that are left to save and stop, and waits for them.

        Those without a trial have nothing to save.
        """
        for name, process in self.processes.items():
            if process.poll() is None:
                training = name in self.chief.ongoing
                process.send_signal(signal.SIGINT if training else signal.SIGKILL)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                for process in self.processes.values():
                    process.wait(SAVING_SECONDS)
        finally:
            for process in self.processes.values():
                process.kill()
                process.wait()


def _how_it_ended(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _note_failure(chief: Chief, trial: str | None, note: Callable[[str], None]) -> None:
    if trial in chief.outcomes:
        note(f"trial {trial} failed: {chief.outcomes[trial]['reason']}")


def _start(search: Search, number: int, port: int) -> subprocess.Popen:
    """A worker process; it notices by the pipe to its input when we are gone, however we end."""
    environment = {
        **os.environ,
        **dict(zip(VARIABLES, (f"worker{number}", "127.0.0.1", str(port)), strict=True)),
    }
    environment.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, cores() // search.tune.workers)))
    environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    accelerators = len(tf.config.list_physical_devices("GPU"))
    if accelerators > 1 and search.tune.workers > 1:
        environment.setdefault("CUDA_VISIBLE_DEVICES", str(number % accelerators))
    command = [sys.executable, "-m", "tfbig.tune", "--resume", os.fspath(search.path), "--worker"]
    # In a session of its own, Ctrl-C reaches it once, from us, and not a second time, which would
    # end it before it has saved.
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=2, start_new_session=True
    )


def serve_parent() -> None:
    """Ends this worker when the chief that started it is gone, or before it if memory runs out.

    Without a chief it would wait for an answer in vain, and keep its run locked.
    """
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/oom_score_adj").write_text("300")

    def watch():
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Client:
    """The chief, seen from a worker: Keras Tuner's client, patient while a chief is started again.

    While the worker has a trial, a thread keeps asking for it, which tells the chief that the
    worker lives.
    """

    def __init__(self):
        oracles.tuner_package()
        import grpc
        from keras_tuner.src.distribute.oracle_client import OracleClient

        self.client = OracleClient(None)
        self.error = grpc.RpcError
        self.trial = None
        threading.Thread(target=self._beat, daemon=True).start()

    def _ask(self, method: str, *arguments):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return getattr(self.client, method)(*arguments)
            except self.error as error:  # every request may be made twice
                if time.monotonic() > deadline:
                    raise RunFailure(
                        f"the chief does not answer: {error.code()}. All trials are kept; the chief"
                        " goes on with --resume."
                    ) from error
                time.sleep(HEARTBEAT_SECONDS / 5)

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            if self.trial is not None:
                with contextlib.suppress(self.error):
                    self.client.get_trial(self.trial)

    def create_trial(self, tuner_id: str):
        trial = self._ask("create_trial", tuner_id)
        self.trial = trial.trial_id if trial.status == "RUNNING" else None
        return trial

    def end_trial(self, trial) -> None:
        self._ask("end_trial", trial)
        self.trial = None
