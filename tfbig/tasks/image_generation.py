"""Image generation: pictures from noise, of a class or none, by diffusion."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, np, tf
from tfbig.data.image_folder import ImageFolder
from tfbig.decoding import diffusion as writing
from tfbig.media.picture import Picture
from tfbig.metrics.generated import frechet_distance, kernel_distance, nearest
from tfbig.models.unet import UNet
from tfbig.nn import diffusion
from tfbig.prep import image as prep
from tfbig.prep import random
from tfbig.tasks import _served_diffusion
from tfbig.tasks._served_diffusion import ANY, Generation

TIME, DRAW, HIDDEN, WRITTEN = 30, 31, 32, 33  # streams of a key's random numbers
SHOWN = 24  # pictures in a panel of the report
COMPARED = 20_000  # training pictures that must be read first, to look for copies among them


@dataclass(frozen=True, kw_only=True)
class Judgement(Component):
    """How written pictures are judged, where there is a judge."""

    share: float = knob(
        0.1, "of a split's examples, those that a picture is written for", above=0, high=1
    )
    steps: int = knob(20, "from noise to picture", low=1)
    guidance: float = knob(2.0, "how much more so than without a class; 1: as it is", low=0)
    freshness: float = knob(
        0.0,
        "0: nothing random but the beginning (DDIM); 1: new noise each step (DDPM)",
        low=0,
        high=1,
    )


@dataclass(frozen=True, kw_only=True)
class ImageGeneration(Task):
    """Image generation: a network that takes noise away, step by step (Ho et al. 2020).

    It learns the velocity (Salimans and Ho 2022) on a cosine schedule, with classes if there are
    any, of which some are hidden, so that it can be guided (Ho and Salimans 2022).

    The loss of an evaluation is of one time and one noise for each picture, which follow from its
    pixels: always the same, so losses of different steps and runs can be compared.
    """

    by_class: bool = knob(True, "whether it is told the picture's class")
    hidden: float = knob(0.1, "training: share of classes that it is not told", low=0, high=1)
    flip: bool = knob(False, "training: mirror left-right at random")
    judge: str = knob(
        "",
        "run directory of an image classifier that judges what is written, after training: KID and"
        " FID in its features, and whether it reads the class that was asked for",
        path=True,
    )

    takes = frozenset({"image"})
    feeds = frozenset({"noisy"})
    needs = frozenset({"picture"})
    primary = ("loss", "min")
    metric_units = {"read_as_asked": "%"}
    asked_with = "CLASS"
    preprocess_on = "device"
    evaluation = Judgement
    request = Generation
    service = _served_diffusion.Service

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(),
            model=UNet.smallest(),
            data=ImageFolder.smallest(folder),
            train=Train(length="60", batch_size=12, evaluate_every="20"),
            optim=Optim(optimizer="adam", learning_rate=0.01),
        )

    def uses(self):
        return {"judge": self.judge} if self.judge else {}

    def fits(self, model, data):
        yield from super().fits(model, data)
        if self.by_class and "label" not in data.gives:
            yield (
                "data",
                f"expected data that gives label, or task.by_class=false. Received:"
                f" {type(data).__name__}.",
            )

    def measure(self, data):
        """The names of the classes."""
        if self.by_class and not data.label_names:
            raise UserError(
                "task.by_class: expected data that names its classes. Received:"
                f" {type(data).__name__}, which names none. Set task.by_class=false."
            )
        return {"labels": list(data.label_names) if self.by_class else []}

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.facts["labels"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.data.spec["image"].shape

    @property
    def picture(self) -> Picture:
        return Picture(shape=self.shape, background=self.data.background, share=self.data.centre)

    def preprocess(self, raw, training):
        """uint8 pictures to noisy ones, float32, of -1 to 1 without noise, and what to say of them.

        "noisy", "velocity" [batch, height, width, channels], "time", "label" [batch], and "key",
        of which everything random comes.
        """
        image = raw["image"]
        key = raw["key"] if training else _own_key(image)
        if training and self.flip:
            image = prep.random_flip(image, key)
        picture = diffusion.scaled(image)
        time = random.uniform(key, TIME)
        draw = random.normal(key, DRAW, self.shape)
        ready = {
            "noisy": diffusion.covered(picture, draw, time),
            "velocity": diffusion.velocity(picture, draw, time),
            "time": time,
            "key": key,
        }
        if self.labels and "label" in raw:
            ready["label"] = raw["label"]
            if training:
                is_hidden = random.uniform(key, HIDDEN) < self.hidden
                ready["label"] = tf.where(is_hidden, len(self.labels), raw["label"])
        return ready

    def build(self):
        if self.judge:
            self._check_judge()
        spec = {
            "noisy": Feature(shape=self.shape, dtype="float32"),
            "time": Feature(shape=(), dtype="float32"),
        }
        if self.labels:
            spec["label"] = Feature(shape=(), dtype="int32", values=len(self.labels) + 1)
        return self.model.build(spec)

    def _check_judge(self) -> None:
        """Refuses a judge that could not read these pictures."""
        task, model = (getattr(self.parts["judge"], name) for name in ("task", "model"))
        expected = f"a classifier of pictures of {' x '.join(map(str, self.shape))}"
        seen = task.data.spec.get("image")
        is_classifier = "label" in task.takes and "head" in {layer.name for layer in model.layers}
        if seen is None or not is_classifier or seen.shape != self.shape:
            shape = f", of {list(seen.shape)}" if seen else ""
            raise UserError(
                f"task.judge: expected {expected}. Received: {self.judge}, which does"
                f" {type(task).__name__}{shape}."
            )
        if self.labels and tuple(task.facts["labels"]) != self.labels:
            raise UserError(
                f"task.judge: expected one that knows the classes {', '.join(self.labels)}, in this"
                f" order. Received: {self.judge}, of {', '.join(task.facts['labels'])}."
            )

    def said(self, model, batch, training=False):
        """The velocity that the model says, float32 [batch, height, width, channels]."""
        given = {name: batch[name] for name in ("noisy", "time", "label") if name in batch}
        return tf.cast(model(given, training=training), tf.float32)

    def loss(self, model, batch, training):
        """The squared error of the velocity, the mean over a picture's values."""
        error = _error(self.said(model, batch, training), batch)
        return {"loss": (error, tf.ones_like(error))}

    def predict(self, model, inputs):
        """The velocity [batch, 1, height, width, channels], of one time."""
        return {"velocity": self.said(model, inputs)[:, None]}

    def metrics(self, outputs, batch):
        """The squared error of the velocity; of what was written, whether the judge reads it so."""
        error = _error(outputs["velocity"][:, 0], batch)
        measured = {"loss": (error, tf.ones_like(error))}
        if "read" in outputs and self.labels:
            right = tf.cast(tf.equal(outputs["read"], batch["label"]), tf.float32)
            measured["read_as_asked"] = (right * outputs["written"], outputs["written"])
        return measured

    # What is written, and how it is judged

    def sampler(self, model, label, guidance) -> writing.Sampler:
        """What writes pictures of these classes, int32 [batch]; the number behind the last: any."""
        if not self.labels:
            return writing.Sampler(
                lambda noisy, time: self.said(model, {"noisy": noisy, "time": time}), self.shape
            )

        def said(noisy, time):
            both = {"noisy": tf.concat([noisy, noisy], 0), "time": tf.concat([time, time], 0)}
            both["label"] = tf.concat([label, tf.fill(tf.shape(label), len(self.labels))], 0)
            told, untold = tf.split(self.said(model, both), 2)
            return writing.guided(told, untold, guidance)

        return writing.Sampler(said, self.shape)

    def conclude(self, model, inputs, options):
        """Where there is a judge: what it says of pictures written for some of the examples.

        "written" [batch], 1 for those; "read", the class it sees; features of the real and of the
        written picture [batch, width].
        """
        if not self.judge:
            return {}
        key = inputs["key"]
        chosen = random.uniform(key, WRITTEN) < options.share
        # Of none chosen the first is written, and counts for nothing: empty batches break kernels
        is_first = tf.range(tf.shape(chosen)[0]) == 0
        rows = tf.where(chosen | (is_first & ~tf.reduce_any(chosen)))[:, 0]
        some = tf.gather(key, rows)
        label = tf.gather(inputs["label"], rows) if self.labels else None
        guidance = tf.fill(tf.shape(rows), options.guidance)
        sampler = self.sampler(model, label, guidance)
        pictures = sampler.write(some, options.steps, options.freshness)
        time = inputs["time"]
        real, _ = diffusion.uncovered(inputs["noisy"], inputs["velocity"], time)
        made_features, read = self._judged(pictures)
        real_features, _ = self._judged(tf.gather(real, rows))
        size = tf.shape(chosen, out_type=tf.int64)[:1]

        def spread(values):
            shape = tf.concat([size, tf.shape(values, out_type=tf.int64)[1:]], 0)
            return tf.ensure_shape(
                tf.scatter_nd(rows[:, None], values, shape), (chosen.shape[0], *values.shape[1:])
            )

        return {
            "written": tf.cast(chosen, tf.float32),
            "read": spread(read),
            "made_features": spread(made_features),
            "real_features": spread(real_features),
        }

    def _judged(self, pictures):
        """The judge's features [b, width] of pictures, and the classes that it sees, int32 [b]."""
        judge = self.parts["judge"]
        ready = judge.task.preprocess({"image": diffusion.intensities(pictures)}, False)
        features, logits = _with_features(judge.model)(ready["image"], training=False)
        return tf.cast(features, tf.float32), tf.argmax(logits, -1, tf.int32)

    def records(self, outputs, batch):
        """What the judge says of each written picture; see `conclude`."""
        names = ("written", "made_features", "real_features")
        return {name: outputs[name] for name in names if name in outputs}

    def score(self, statistics):
        """KID and FID of the written pictures, in the judge's features."""
        chosen = statistics["written"] > 0
        real, made = (statistics[f"{kind}_features"][chosen] for kind in ("real", "made"))
        if len(real) < 2:
            return {"kid": None, "fid": None}
        return {"kid": kernel_distance(real, made), "fid": frechet_distance(real, made)}

    def measured_by(self, options):
        if not self.judge:
            return {}
        kind = type(self.parts["judge"].task.model).__name__
        how = (
            f"{options.share:.0%} of the pictures, as many written in {options.steps} steps at"
            f" guidance {options.guidance:g}"
        )
        features = f"in the last features of {kind}, {self.judge}; {how}"
        fid = f"{features}; its interval lies too high, for resamples hold fewer different pictures"
        return {"kid": features, "fid": fid, "read_as_asked": how}

    # Serving and predictions

    def serving(self, model, options):
        return _served_diffusion.serving(self, model, options)

    def check_inputs(self, inputs):
        words = [inputs] if isinstance(inputs, str) else list(inputs)
        if wrong := [word for word in words if not isinstance(word, str)]:
            raise UserError(
                f"inputs: expected names of classes, or {ANY}. Received: {str(wrong[0])[:100]}"
                f" ({type(wrong[0]).__name__})."
            )

    def respond(self, trained, inputs, request, write):
        """Classes to pictures, as PNG files: [{"input", "seed", "file"}]."""
        return _served_diffusion.respond(self, trained.model, inputs, request, write)

    # Reports

    def samples(self, model, jit):
        """Written pictures, with the training picture that is nearest, and how one comes about."""
        number = len(self.labels) or 1
        label = tf.range(SHOWN) % number if self.labels else None
        sampler = self.sampler(model, label, tf.fill([SHOWN], Judgement().guidance))
        key = tf.cast(tf.stack([tf.zeros(SHOWN, tf.int32), tf.range(SHOWN)], 1), tf.uint32)
        write = tf.function(lambda: sampler.write(key, Judgement().steps), autograph=False)
        written = diffusion.intensities(write()).numpy()
        names = [self.labels[i % number] if self.labels else "" for i in range(SHOWN)]
        title = f"Written pictures, {Judgement().steps} steps"
        if self.labels:
            title += f", guidance {Judgement().guidance:g}"
        return [self.picture.panel(title, written, names), self._beside_nearest(written)]

    def _beside_nearest(self, written) -> dict:
        """Some written pictures, and behind each the training picture that is nearest to it."""
        shown = written[: SHOWN // 2]
        looked_at = self._looked_at
        rows, distances = nearest(shown, self._training_pictures(looked_at))
        rows = looked_at[rows]
        found = self.data.examples("train", rows)["image"]
        pictures = np.stack([shown, found], 1).reshape(-1, *self.shape)
        words = [text for d in distances for text in ("written", f"nearest, {d:.1f} apart")]
        caption = (
            "Root of the mean squared difference, of 0 to 255. A picture that is a copy of its"
            f" nearest one was learnt by heart. Among {len(looked_at):,} of"
            f" {self.data.size('train'):,} training pictures."
        )
        title = "The nearest training picture of each"
        return self.picture.panel(title, pictures, words, caption)

    @property
    def _looked_at(self) -> np.ndarray:
        """Places of the training pictures that written ones are compared with."""
        size = self.data.size("train")
        is_quick = self.data.arrays("train") is not None
        return (
            np.arange(size)
            if is_quick
            else np.unique(np.linspace(0, size - 1, min(size, COMPARED)).astype(np.int64))
        )

    def _training_pictures(self, rows: np.ndarray):
        """Training pictures, some at a time."""
        for first in range(0, len(rows), 2048):
            yield self.data.examples("train", rows[first : first + 2048])["image"]

    def training_panels(self, batch):
        """The first noisy pictures of training, with their times."""
        names = (*self.labels, "class hidden")
        labels = batch.get("label", [0] * SHOWN)
        words = [
            f"time {time:.2f}" + (f", {names[label]}" if self.labels else "")
            for time, label in zip(batch["time"][:SHOWN], labels, strict=False)
        ]
        pictures = diffusion.intensities(batch["noisy"][:SHOWN]).numpy()
        title = "Pictures of the first training batch, as noise covers them"
        return [self.picture.panel(title, pictures, words)]


def _error(said, batch):
    """The squared error of a velocity, the mean of each example's values, [batch]."""
    return tf.reduce_mean((said - batch["velocity"]) ** 2, (1, 2, 3))


@functools.cache
def _with_features(model):
    """A classifier that gives what its head is given, too."""
    head = model.get_layer("head")
    return keras.Model(model.input, [head.input, head.output])


def _own_key(image):
    """A key that follows from a picture's pixels, uint32 [batch, 2]."""
    pixels = tf.cast(tf.reshape(image, [tf.shape(image)[0], -1]), tf.int64)
    place = np.arange(int(np.prod(image.shape[1:])), dtype=np.int64)
    weights = np.stack([place * 2654435761 % 1048583, place * 40503 % 1048573], 1)
    sums = tf.reduce_sum(pixels[:, :, None] * weights[None], 1)
    return tf.cast(sums % 2**32, tf.uint32)
