"""A diffusion model as it is served, and as it answers on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Media, Program, Serving, Stepwise, Trial, Unrolled
from tfbig.media.picture import Picture
from tfbig.nn import diffusion
from tfbig.tasks._requests import checked

ANY = "any"  # the word for no class
TRIED = 8  # pictures written to verify an export
MOST_STEPS = 1000
SEEDS = 2**31
TOGETHER = 32  # pictures that are written at once


@dataclass(frozen=True, kw_only=True)
class Generation(Component):
    """How pictures are written."""

    to: str = knob("pictures", "folder that the PNG files are written to", path=True)
    number: int = knob(1, "pictures of each class that is named", low=1)
    seed: int = knob(0, "of the first one; the next have the next ones", low=0, high=SEEDS - 1)
    steps: int = knob(20, "from noise to picture", low=1, high=MOST_STEPS)
    guidance: float = knob(2.0, "how much more so than without a class; 1: as it is", low=0)
    freshness: float = knob(
        0.0, "0: nothing random but the beginning; 1: new noise at each step", low=0, high=1
    )
    picture: str = knob("", "a picture to begin with, in place of nothing but noise", path=True)
    strength: float = knob(
        0.7, "how much noise covers that picture: 0 leaves it, 1 nothing of it", above=0, high=1
    )
    mask: str = knob(
        "", "a picture, white where the other one is written anew, black where it stays", path=True
    )

    def problems(self):
        if self.mask and not self.picture:
            yield "mask", "expected a picture, too, of which it says what stays: --picture FILE"


@dataclass(frozen=True, kw_only=True)
class Service(Component):
    """How a served model writes when it is not told otherwise."""

    steps: int = knob(20, "from noise to picture", low=1, high=MOST_STEPS)
    guidance: float = knob(2.0, "how much more so than without a class; 1: as it is", low=0)
    limit: int = knob(2_000, "most steps of all pictures of a request together", low=1)

    def problems(self):
        if self.steps > self.limit:
            yield "steps", f"expected at most limit={self.limit}. Received: {self.steps}."


def serving(task: Task, model, service: Service) -> Serving:
    """A diffusion model as it is served.

    serving_default: label string [batch] (a class or "any"; not where it knows none), seed int32
    [batch] -> image uint8 [batch, height, width, channels], png string [batch], and the image
    before it was rounded, values float32, -1 to 1.

    generate: also guidance and freshness float32 [batch], steps int32 []. vary: also image_bytes
    and strength float32 [batch], what it begins with. fill: also mask_bytes, white where the
    picture is written anew. denoise: noisy float32 [batch, height, width, channels], time float32
    [batch], label int32 [batch] -> velocity; see tfbig/nn/diffusion.py.

    The split is put through `score`: pictures and classes to the error of what is said of them.
    """
    programs = _Programs(task, model, service)
    takes = {"label": "text"} if task.labels else {}
    return Serving(
        signature=programs.scored,
        decode=programs.decode,
        encode=programs.encode,
        answer=lambda outputs: {"velocity": outputs["velocity"]},
        grade=task.metrics,
        name="score",
        programs=programs.all(),
        # So that a request is refused for its own steps alone
        by_place=("serving_default", "generate", "vary", "fill"),
        stepwise=Stepwise(
            step="denoise",
            carried=(),
            outputs={"velocity": ("velocity", "same")},
            unroll=programs.unrolled,
        ),
        trials=programs.trials,
        media=Media(
            takes=takes,
            gives={"png": "picture"},
            forms={name: {"choices": [*task.labels, ANY]} for name in takes},
        ),
        assets={"labels": list(task.labels)} if task.labels else {},
        remarks=tuple(_remarks(task, service)),
    )


def _remarks(task: Task, service: Service):
    what = f"one of {', '.join(task.labels)}, or {ANY}; " if task.labels else ""
    yield (
        f"It writes pictures of {' x '.join(map(str, task.shape))} from {what}a seed: the same"
        " seed writes the same picture, whatever else is in the request."
    )
    yield (
        f"serving_default makes {service.steps} steps at guidance {service.guidance:g}; a request"
        f" may ask for {service.limit:,} steps, of all its pictures together."
    )
    yield "It may write pictures that are close to those it was trained on."


class _Programs:
    """What leaves with the model; see `serving`."""

    def __init__(self, task: Task, model, service: Service):
        self.task, self.model, self.service = task, model, service
        self.picture: Picture = task.picture

    @property
    def asked(self) -> dict[str, tf.TensorSpec]:
        """What every picture is asked for by."""
        label = {"label": tf.TensorSpec([None], tf.string)} if self.task.labels else {}
        return {**label, "seed": tf.TensorSpec([None], tf.int32)}

    @property
    def settings(self) -> dict[str, tf.TensorSpec]:
        each = tf.TensorSpec([None], tf.float32)
        return {"guidance": each, "freshness": each, "steps": tf.TensorSpec([], tf.int32)}

    @property
    def scored(self) -> dict[str, tf.TensorSpec]:
        label = (
            {"label": tf.TensorSpec([None], tf.string, name="label")} if self.task.labels else {}
        )
        return {"image_bytes": self.picture.served("image_bytes"), **label}

    def all(self) -> dict[str, Program]:
        each = tf.TensorSpec([None], tf.float32)
        start = {"image_bytes": tf.TensorSpec([None], tf.string)}
        whole = {**self.asked, **self.settings}
        noisy = {"noisy": tf.TensorSpec([None, *self.task.shape], tf.float32), "time": each}
        if self.task.labels:
            noisy["label"] = tf.TensorSpec([None], tf.int32)
        mask = {"mask_bytes": tf.TensorSpec([None], tf.string)}
        return {
            "serving_default": Program(function=self.write, inputs=self.asked),
            "generate": Program(function=self.write, inputs=whole),
            "vary": Program(function=self.write, inputs={**whole, **start, "strength": each}),
            "fill": Program(function=self.write, inputs={**whole, **start, **mask}),
            "denoise": Program(function=self.denoise, inputs=noisy),
        }

    def denoise(self, **given) -> dict:
        return {"velocity": self.task.said(self.model, given)}

    def write(self, seed, label=None, **given) -> dict:
        """Pictures of these labels and seeds; see `serving`."""
        rows = tf.shape(seed)[0]
        steps = given.get("steps", tf.constant(self.service.steps))
        fits = (steps > 0) & (steps <= MOST_STEPS) & (steps * rows <= self.service.limit)
        words = f"1 to {MOST_STEPS}, and {self.service.limit} for all pictures of a request"
        steps = checked(steps, fits, f"steps: expected {words}")
        guidance = given.get("guidance", tf.fill([rows], self.service.guidance))
        freshness = given.get("freshness", tf.zeros([rows]))
        fits = tf.reduce_all((freshness >= 0) & (freshness <= 1))
        freshness = checked(freshness, fits, "freshness: expected numbers from 0 to 1")
        first, picture, keep = 1.0, None, None
        if "image_bytes" in given:
            picture = diffusion.scaled(self.picture.decode(given["image_bytes"]))
        if "strength" in given:
            fits = tf.reduce_all((given["strength"] > 0) & (given["strength"] <= 1))
            first = checked(given["strength"], fits, "strength: expected more than 0, at most 1")
        if "mask_bytes" in given:
            grey = Picture(shape=(*self.task.shape[:2], 1)).decode(given["mask_bytes"])
            keep = tf.cast(grey < 128, tf.float32)
        sampler = self.task.sampler(self.model, self.number_of(label), guidance)
        values = sampler.write(_keys(seed), steps, freshness, first, picture, keep)
        image = diffusion.intensities(values)
        with tf.device("CPU"):
            png = tf.map_fn(tf.io.encode_png, image, fn_output_signature=tf.string)
        return {"image": image, "png": png, "values": values}

    def number_of(self, label):
        """The number of each class; behind the last one: any."""
        if label is None:
            return None
        names = tf.constant([*self.task.labels, ANY])
        is_name = tf.equal(label[:, None], names)
        known = tf.reduce_all(tf.reduce_any(is_name, 1))
        words = f"label: expected one of {', '.join([*self.task.labels, ANY])}"
        return checked(tf.argmax(is_name, 1, tf.int32), known, words)

    def decode(self, served):
        raw = {"image": self.picture.decode(served["image_bytes"])}
        if self.task.labels:
            raw["label"] = self.number_of(served["label"])
        return raw

    def encode(self, raw):
        served = {"image_bytes": self.picture.encode(raw["image"])}
        if self.task.labels:
            names = np.array([name.encode() for name in self.task.labels], object)
            served["label"] = names[np.asarray(raw["label"])]
        return served

    def unrolled(self, raw) -> Unrolled:
        """Examples as one step each."""
        given = {name: tf.constant(raw[name]) for name in ("image", "label") if name in raw}
        ready = self.task.preprocess(given, False)
        names = [name for name in ("noisy", "time", "label") if name in ready]
        return Unrolled(given={name: ready[name].numpy()[:, None] for name in names})

    def trials(self, split: str) -> list[Trial]:
        """Pictures that must come out, for some classes and seeds."""
        seed = np.arange(min(TRIED, self.service.limit // self.service.steps), dtype=np.int32)
        inputs = {"seed": seed}
        if self.task.labels:
            names = [*self.task.labels, ANY]
            inputs["label"] = np.array([names[i % len(names)].encode() for i in seed], object)
        given = {name: tf.constant(value) for name, value in inputs.items()}
        expected = {"values": self.write(**given)["values"].numpy()}
        return [Trial(program="serving_default", inputs=inputs, expected=expected, unit="picture")]


def _keys(seed):
    """Keys of seeds, uint32 [b, 2]."""
    return tf.stack(
        [tf.cast(seed, tf.uint32), tf.fill(tf.shape(seed), tf.constant(7, tf.uint32))], 1
    )


def respond(task: Task, model, inputs, request: Generation, write) -> list[dict]:
    """Writes PNG files of the classes that are named; see `Task.respond`."""
    words = [inputs] if isinstance(inputs, str) else list(inputs)
    known = [*task.labels, ANY] if task.labels else [ANY]
    if wrong := [word for word in words if word not in known]:
        raise UserError(f"inputs: expected one of {', '.join(known)}. Received: {wrong[0]}.")
    programs = _Programs(task, model, Service(limit=TOGETHER * MOST_STEPS))
    asked = [word for word in words for _ in range(request.number)]
    seeds = [(request.seed + i) % SEEDS for i in range(len(asked))]
    begun = _beginning(programs, request)
    files = _free(Path(request.to), asked, seeds)
    compiled = tf.function(programs.write, autograph=False)
    results = []
    for first in range(0, len(asked), TOGETHER):
        rows = slice(first, first + TOGETHER)
        count = len(asked[rows])
        given = {
            "seed": tf.constant(seeds[rows], tf.int32),
            "guidance": tf.fill([count], float(request.guidance)),
            "freshness": tf.fill([count], float(request.freshness)),
            "steps": tf.constant(request.steps),
            **{name: tf.repeat(value, count, 0) for name, value in begun.items()},
        }
        if task.labels:
            given["label"] = tf.constant(asked[rows])
        made = compiled(**given)["png"].numpy()
        for word, seed, file, png in zip(asked[rows], seeds[rows], files[rows], made, strict=True):
            file.write_bytes(png)
            results.append({"input": word, "seed": seed, "file": str(file)})
            write(f"{word}, seed {seed}: {file}\n")
    return results


def _free(folder: Path, asked: list[str], seeds: list[int]) -> list[Path]:
    """The file of each picture, in a folder that is there by then; no other is written over."""
    files = [
        folder / f"{Path(word).name}_{seed}.png" for word, seed in zip(asked, seeds, strict=True)
    ]
    if taken := [file for file in files if file.exists()]:
        raise UserError(
            f"to: expected a folder without {taken[0].name}. Received: {folder}, which has it. Give"
            " another folder with --to, or another --seed."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"to: expected a folder that files can be written to. Received: {folder}:"
            f" {error.strerror}."
        ) from error
    return files


def _beginning(programs: _Programs, request: Generation) -> dict:
    """What a picture begins with, where it does not begin with noise alone."""
    if not request.picture:
        return {}
    given = {"image_bytes": _file(programs.picture, request.picture, "picture")}
    if request.mask:
        grey = Picture(shape=(*programs.task.shape[:2], 1))
        return {**given, "mask_bytes": _file(grey, request.mask, "mask")}
    return {**given, "strength": tf.constant([float(request.strength)])}


def _file(picture: Picture, path: str, name: str):
    """An encoded picture [1], which can be read."""
    try:
        taken = picture.take([path])
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return tf.constant(picture.encode(np.stack(taken.values)))
