"""Which models and versions are served.

Found in a directory, loaded beside the ones in service, and replaced without a gap.

What cannot be read is skipped and logged. A model that takes long to load, or loops, is waited for
only so long. All of them, unless a ModelServerConfig (TensorFlow Serving's models.config) is asked
for: then those it names, by its rules.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.deploy import artefact
from tfbig.deploy.server import model_config, servable
from tfbig.deploy.server.admission import Budget
from tfbig.deploy.server.batching import PIXELS_AT_ONCE, Batcher
from tfbig.deploy.server.loading import beside
from tfbig.deploy.server.status import Failure

CONTENT = ("saved_model.pb", "model.onnx", artefact.RECORD)  # of a version, one of them at least
PATIENCE_S = 10.0  # that others wait for a model that is being loaded
LOADING_S = 600.0  # after which it is given up


@dataclass
class Version:
    """A version that was found.

    Its state in TensorFlow Serving's words, and its queue while it is AVAILABLE.
    """

    state: str = "START"
    error: str = ""
    fingerprint: tuple = ()
    batcher: Batcher | None = None
    loaded: int = 0  # when it was, in seconds since 1970
    loading: asyncio.Task | None = None
    waited: bool = False  # for as long as others have patience

    def close(self) -> None:
        """Ends it; what is queued is still answered."""
        if self.loading:
            self.loading.cancel()
        if self.batcher:
            self.batcher.close()


@dataclass
class Entry:
    """A model: its versions, and what the configuration says of it."""

    versions: dict[int, Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    policy: tuple = ("all",)


class Catalogue:
    """The models under `root`. Its methods are for the event loop's thread; others do the loading.

    Args:
        root: a directory of models (NAME/VERSION/...), or of one model's versions.
        engine: "tensorflow" or "onnx".
        unverified: whether models without artefact.json are served.
        say: called with each event and its values.
        config: a ModelServerConfig as text, read again when it changes; None serves every model and
            version.
        loading_s: seconds after which a model that is still not loaded is given up.

    Raises:
        UserError: no such directory, or no such configuration.
    """

    def __init__(
        self,
        root: Path,
        engine: str,
        unverified: bool,
        say: Callable,
        config: Path | None = None,
        loading_s: float = LOADING_S,
    ):
        self.root = root.absolute()  # a link may lead elsewhere later
        self.engine = engine
        self.unverified = unverified
        self.say = say
        self.config = config
        self.loading_s = loading_s
        if not self.root.is_dir():
            raise UserError(
                f"{root}: no such directory. Expected models, NAME/VERSION/..., as python -m"
                " tfbig.export writes them."
            )
        try:
            self.single = self.root.name if _is_model(self.root) else None
        except OSError as error:
            raise UserError(f"{root}: cannot be read: {error.strerror}.") from error
        self.skipped: dict[Path, str] = {}  # and why
        self.pixels = Budget("pixels of pictures", PIXELS_AT_ONCE)
        self.entries: dict[str, Entry] = {}
        self.configured: set[str] | None = None  # names; None: no configuration
        self.changing = asyncio.Lock()  # one change at a time: each awaits loading
        self._config_seen = _fingerprint(config) if config is not None else ()
        if config is not None:
            self.apply(model_config.read(config))

    async def folders(self) -> dict[str, list[int]]:
        """The versions that the directory holds of each model, in service or not, without links.

        What cannot be read, or asked for, is skipped and logged once.
        """
        if self.single:
            return {self.single: await beside(artefact.versions, self.root)}
        versions, skipped = await beside(_look, self.root)
        for folder, reason in skipped.items():
            if self.skipped.get(folder) != reason:
                self.say("skipped", {"folder": _readable(folder), "error": reason})
        self.skipped = skipped
        return versions

    def find(self, name: str, version: int | None = None, label: str | None = None) -> Batcher:
        """The queue of the version that is asked for; without one, of the latest.

        Raises:
            Failure: NOT_FOUND or INVALID_ARGUMENT, in TensorFlow Serving's words.
        """
        entry = self.entries.get(name)
        versions = entry.versions if entry else {}
        batchers = {number: held.batcher for number, held in versions.items() if held.batcher}
        if label is not None:
            if entry is None or label not in entry.labels:
                raise Failure("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            version = entry.labels[label]
        if not batchers or (version is not None and version not in batchers):
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise Failure("NOT_FOUND", f"Servable not found for request: {wanted}")
        return batchers[max(batchers) if version is None else version]

    def states(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> list[tuple[int, str, str]]:
        """(version, state, error) of a model's versions, newest first."""
        entry = self.entries.get(name)
        if entry and label is not None:
            if label not in entry.labels:
                raise Failure("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            version = entry.labels[label]
        versions = sorted(entry.versions.items(), reverse=True) if entry else []
        states = [
            (number, held.state, held.error)
            for number, held in versions
            if version in (None, number)
        ]
        if not states:
            wanted = "any versions" if version is None else f"version {version}"
            raise Failure("NOT_FOUND", f"Could not find {wanted} of model {name}")
        return states

    async def refresh(self, config=None) -> None:
        """Serves what the directory holds now, by a ModelServerConfig if one is given.

        New versions are loaded first, then old ones are let go.
        """
        async with self.changing:
            self._read_config()
            if config is not None:
                self.apply(config)
            await self._refresh()

    async def _refresh(self) -> None:
        folders = {
            name: versions
            for name, versions in (await self.folders()).items()
            if self.configured is None or name in self.configured
        }
        for name, versions in folders.items():
            entry = self.entries.setdefault(name, Entry())
            wanted = model_config.chosen(versions, entry.policy)
            for number in wanted:
                folder = self.root if self.single else self.root / name
                await self._load(name, entry, number, folder / str(number))
            # A gap is worse than an old version: it stays until another one answers.
            if any(entry.versions[number].batcher for number in wanted) or not wanted:
                for number in [number for number in entry.versions if number not in wanted]:
                    self._retire(name, entry, number)
        for name in [name for name in self.entries if name not in folders]:
            for number in list(self.entries[name].versions):
                self._retire(name, self.entries[name], number)
            # What the configuration says of a model outlives its directory
            if name not in (self.configured or ()):
                del self.entries[name]

    async def first(self) -> None:
        """Looks, and waits until there is something to serve or nothing more is being loaded."""
        await self.refresh()
        while not self.serves():
            versions = [
                version for entry in self.entries.values() for version in entry.versions.values()
            ]
            loading = {version.loading for version in versions if version.loading}
            if not loading:
                return
            await asyncio.wait(loading, return_when=asyncio.FIRST_COMPLETED)

    def serves(self) -> bool:
        """Whether any model can be asked."""
        return any(
            version.batcher
            for entry in self.entries.values()
            for version in entry.versions.values()
        )

    def served(self) -> dict[str, list[int]]:
        """The versions of each model that can be asked, ascending."""
        return {
            name: sorted(number for number, version in entry.versions.items() if version.batcher)
            for name, entry in self.entries.items()
        }

    async def _load(self, name: str, entry: Entry, number: int, folder: Path) -> None:
        """Begins to load a version that is new, or changed since it was refused.

        Others wait a while.
        """
        version = entry.versions.setdefault(number, Version())
        if version.batcher:
            await self._say_if_replaced(name, number, version, folder)
            return
        if version.loading is None:
            fingerprint = await beside(_fingerprint, folder)
            if fingerprint == version.fingerprint:
                return  # refused before, and unchanged since
            version.state = "LOADING"
            version.error = ""
            version.fingerprint = fingerprint
            version.waited = False
            version.loading = asyncio.create_task(self._loaded(name, version, number, folder))
        if not version.waited:
            await asyncio.wait({version.loading}, timeout=PATIENCE_S)
            version.waited = True

    async def _say_if_replaced(self, name: str, number: int, version: Version, folder: Path):
        """Says once that a version in service has other files now; clients keep what they know."""
        fingerprint = await beside(_fingerprint, folder)
        if fingerprint != version.fingerprint:
            version.fingerprint = fingerprint
            reason = "its files changed; served as it was loaded. Give the new one a new number"
            self.say("replaced", {"model": name, "version": number, "error": reason})

    async def _loaded(self, name: str, version: Version, number: int, folder: Path) -> None:
        """Puts a version into service, or says why not."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.loading_s) as timer:
                source = (folder, self.engine, self.unverified)
                loaded = await beside(servable.load, name, number, *source)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, UserError):
                reason = str(error)
            if timer.expired():
                reason = (
                    f"{folder}: was not loaded within {self.loading_s:g} s; given up until it"
                    " changes."
                )
            version.state = "END"
            version.error = _readable(reason)
            self.say("refused", {"model": name, "version": number, "error": version.error})
        else:
            version.batcher = Batcher(loaded, asyncio.get_running_loop(), pixels=self.pixels)
            version.state = "AVAILABLE"
            version.loaded = int(time.time())
            self.say(
                "loaded",
                {"model": name, "version": number, "seconds": round(time.monotonic() - started, 3)},
            )
        finally:
            version.loading = None

    def _retire(self, name: str, entry: Entry, number: int) -> None:
        version = entry.versions.pop(number)
        version.close()
        if version.batcher:
            self.say("unloaded", {"model": name, "version": number})

    def close(self) -> None:
        for entry in self.entries.values():
            for version in entry.versions.values():
                version.close()

    def _read_config(self) -> None:
        """Takes the configuration again when its file has changed.

        One that cannot be read changes nothing.
        """
        fingerprint = _fingerprint(self.config) if self.config is not None else ()
        if fingerprint == self._config_seen:
            return
        self._config_seen = fingerprint
        try:
            self.apply(model_config.read(self.config))
        except UserError as error:
            self.say("refused", {"file": str(self.config), "error": str(error)})

    def apply(self, config) -> None:
        """Serves what a ModelServerConfig lists, with its versions and labels.

        Base paths are not followed: names count.
        """
        listed = {model.name: model for model in config.model_config_list.config}
        self.configured = set(listed)
        for name, model in listed.items():
            entry = self.entries.setdefault(name, Entry())
            entry.labels = dict(model.version_labels)
            entry.policy = model_config.policy_of(model)


def _is_model(root: Path) -> bool:
    """Whether a directory holds the versions of one model, and not models, one named by a number.

    An artefact in a version decides, then models beside it.
    """
    versions = artefact.versions(root)
    if any((root / str(number) / name).is_file() for number in versions for name in CONTENT):
        return True
    return bool(versions) and not any(_look(root)[0].values())


def _look(root: Path) -> tuple[dict[str, list[int]], dict[Path, str]]:
    """The models in a directory with their versions, and what is skipped with the reason."""
    models, skipped = {}, {}
    for entry in sorted(root.iterdir()):
        try:
            versions = (
                [] if entry.name.startswith(".") or entry.is_symlink() else artefact.versions(entry)
            )
            if versions:
                entry.name.encode()
                models[entry.name] = versions
        except OSError as error:
            skipped[entry] = f"cannot be read: {error.strerror}"
        except UnicodeEncodeError:
            skipped[entry] = "its name is no UTF-8, so nobody could ask for it"
    return models, skipped


def _readable(text: object) -> str:
    """A text that can be sent: bytes of file names that are no UTF-8 are shown as such."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def _fingerprint(path: Path) -> tuple:
    """Changes whenever a file's name, size or time does."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    states = []
    for file in files:
        try:
            state = file.lstat()
        except OSError:
            continue  # it went while we looked
        states.append((str(file), state.st_size, state.st_mtime_ns))
    return tuple(states)
