"""Video classification: one of N labels for each clip."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.dataset import Dataset
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, np, tf
from tfbig.core.serving import Media, Program, Serving, Stepwise, Unrolled
from tfbig.data.video_folder import VideoFolder
from tfbig.media.picture import Picture
from tfbig.media.video import Video, filmstrip
from tfbig.models.movinet import MoViNet
from tfbig.nn.heads import with_logits
from tfbig.prep import video as prep
from tfbig.prep.image import channel_statistics, standardize
from tfbig.tasks._targets import OneLabel

MEASURED = 2_000  # training videos whose pixels give mean and deviation
TOGETHER = 16  # of them
SHOWN = 12  # videos in a panel of a report
STRIP_FRAMES, STRIP_PX = 8, 720  # of a mistake's filmstrip
LEAST = 1e-9  # probability, so that its logarithm is a number


@dataclass(frozen=True, kw_only=True)
class Labels(Component):
    """How labels are asked for."""

    top: int = knob(1, "labels for each video, the most probable first", low=1)


@dataclass(frozen=True, kw_only=True)
class VideoClassification(Task):
    """Video classification: softmax over a dataset's labels, cross-entropy loss.

    A video is the frames that the dataset gives of it, and is seen as one or several clips of so
    many frames in a row, its views: its probabilities are their mean (Wang et al. 2018). A causal
    model says something at each frame, of which the last one counts.
    """

    clip_frames: int = knob(
        0, "frames that the model sees at once, of those of a video; 0: all of them", low=0
    )
    views: int = knob(
        1, "clips that a video is judged by, spread over it; training sees one at random", low=1
    )
    label_smoothing: float = knob(
        0.0, "share of the target spread over all labels (Szegedy et al. 2016)", low=0, high=0.9
    )
    shift: int = knob(0, "training: random shift of up to so many pixels, of a whole clip", low=0)
    flip: bool = knob(False, "training: mirror a whole clip left-right at random")
    colours: float = knob(
        0.0,
        "training: random change of a clip's brightness, contrast and colour",
        low=0,
        high=0.9,
    )

    takes = frozenset({"video", "label"})
    feeds = frozenset({"video"})
    primary = ("accuracy", "max")
    metric_units = dict.fromkeys(("accuracy", "clip_accuracy", "top_5_accuracy"), "%")
    asked_with = "VIDEO"
    preprocess_on = "device"
    request = Labels

    def problems(self):
        if self.views > 1 and not self.clip_frames:
            yield "views", "expected 1 where task.clip_frames=0: each view would be the whole video"

    @classmethod
    def wanted_model(cls, model):
        fits = "video" in model.takes and model.gives & {"features", "sequence"}
        return "" if fits else "a model that takes video and gives features or sequence"

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(shift=1),
            model=MoViNet.smallest(),
            data=VideoFolder.smallest(folder),
            train=Train(length="60", batch_size=12, evaluate_every="20"),
            optim=Optim(optimizer="adam", learning_rate=0.005),
        )

    def measure(self, data: Dataset) -> dict:
        """Mean and standard deviation of each channel over the training split, of 0-255."""
        size = data.size("train")
        rows = np.unique(np.linspace(0, size - 1, min(size, MEASURED)).astype(np.int64))
        portions = np.array_split(rows, -(-len(rows) // TOGETHER))
        pixels = (data.examples("train", portion)["video"] for portion in portions)
        return {**channel_statistics(pixels), "labels": list(data.label_names)}

    @property
    def target(self) -> OneLabel:
        """The labels as the model learnt them."""
        return OneLabel(tuple(self.facts["labels"]))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Frames, height, width, channels of a video."""
        return self.data.spec["video"].shape

    @property
    def video(self) -> Video:
        """What videos the model is given."""
        frames, *shape = self.shape
        return Video(frames=frames, shape=tuple(shape))

    @property
    def length(self) -> int:
        """Frames of a clip."""
        return self.clip_frames or self.shape[0]

    @property
    def starts(self) -> list[int]:
        """The first frame of each view: the middles of equal parts of where a clip may begin."""
        spare = self.shape[0] - self.length
        return [(2 * i + 1) * spare // (2 * self.views) for i in range(self.views)]

    @property
    def streams(self) -> bool:
        """Whether the model says something at each frame, from it and those before it."""
        return "sequence" in self.model.gives

    def preprocess(self, raw, training):
        """uint8 [batch, frames, height, width, channels] to float32 of mean 0 and deviation 1.

        While training a clip of each, changed at random, all its frames alike.
        """
        video = raw["video"]
        if training:
            video = self._changed(video, raw["key"])
        ready = {"video": standardize(video, self.facts["mean"], self.facts["std"])}
        if "label" in raw:
            ready["label"] = raw["label"]
        return ready

    def _changed(self, video, key):
        """A clip of each video as augmentation leaves it."""
        clip = prep.random_clip(video, key, self.length)
        if self.shift:
            clip = prep.random_shift(clip, key, self.shift)
        if self.flip:
            clip = prep.random_flip(clip, key)
        return prep.random_colours(clip, key, self.colours) if self.colours else clip

    def build(self) -> keras.Model:
        frames, height, width, channels = self.shape
        if self.length > frames:
            raise ValueError(
                f"task.clip_frames: expected at most the {frames} frames of a video. Received:"
                f" {self.clip_frames}."
            )
        if self.shift >= min(height, width):
            raise ValueError(
                f"task.shift: expected less than the side of the frames, {height} x {width}."
                f" Received: {self.shift}."
            )
        if self.streams and self.views > 1:
            raise ValueError(
                "task.views: expected 1 with a causal model, which goes through a video once."
                f" Received: {self.views}."
            )
        shape = (self.length, height, width, channels)
        feature = Feature(shape=shape, dtype="float32", unit="standard deviations")
        body = self.model.build({"video": feature})
        name = type(self.model).__name__.lower()
        return with_logits(body, body.output, self.target.width, name)

    def loss(self, model, batch, training):
        """Cross-entropy of a clip; of a causal model at its last frame."""
        clip = batch["video"] if training else self._views(batch["video"])[:, 0]
        logits = model(clip, training=training)
        logits = logits[:, -1] if self.streams else logits
        hits = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), batch["label"]), tf.float32)
        weight = tf.ones_like(hits)
        losses = self.target.loss(logits, batch["label"], self.label_smoothing)
        return {"loss": (losses, weight), "accuracy": (hits, weight)}

    def _views(self, video):
        """The views of videos, [batch, views, frames of a clip, height, width, channels]."""
        return tf.stack([video[:, first : first + self.length] for first in self.starts], 1)

    def predict(self, model, inputs):
        """Probabilities [batch, views, labels]; of a causal model [batch, frames, labels]."""
        views = self._views(inputs["video"])
        logits = model(tf.reshape(views, (-1, *views.shape[2:])), training=False)
        logits = tf.reshape(tf.cast(logits, tf.float32), (-1, self.steps, self.target.width))
        return {"probability": tf.nn.softmax(logits)}

    @property
    def steps(self) -> int:
        """Places in time at which something is said of a video: its views, or its frames."""
        return self.length if self.streams else self.views

    def _whole(self, outputs) -> dict:
        """What is said of each video as a whole, as `OneLabel` knows it."""
        each = outputs["probability"]
        probability = each[:, -1] if self.streams else tf.reduce_mean(each, 1)
        return self.target.outputs(tf.math.log(tf.maximum(probability, LEAST)))

    def metrics(self, outputs, batch):
        """Accuracy and cross-entropy (in nats) by video.

        Given more than 10 labels, top-5 accuracy; given several views, the accuracy of one alone.
        """
        label = tf.cast(batch["label"], tf.int32)
        whole = self._whole(outputs)
        measured = self.target.metrics(whole, label)
        ones = tf.ones_like(measured["loss"][1])
        if self.target.width > 10:
            own = tf.gather(whole["logits"], label, axis=1, batch_dims=1)
            rank = tf.reduce_sum(tf.cast(whole["logits"] > own[:, None], tf.int32), axis=1)
            measured["top_5_accuracy"] = (tf.cast(rank < 5, tf.float32), ones)
        if self.views > 1:
            right = self._right_at(outputs, label)
            measured["clip_accuracy"] = (tf.reduce_sum(right, 1), ones * self.views)
        return measured

    def _right_at(self, outputs, label):
        """Whether what is said at each place in time is right, float32 [batch, places]."""
        said = tf.argmax(outputs["probability"], -1, tf.int32)
        return tf.cast(tf.equal(said, label[:, None]), tf.float32)

    def measured_by(self, options):
        frames = self.shape[0]
        if self.streams:
            return {"accuracy": f"by video, at the last of {self.length} frames, in one pass"}
        views = f"{self.views} x 1 views (in time x in space) of {self.length} frames"
        return {"accuracy": f"by video: {views} out of {frames}"}

    def records(self, outputs, batch):
        """What is said of each video and how sure, the truth, and what was right in time."""
        label = tf.cast(batch["label"], tf.int32)
        kept = self.target.records(self._whole(outputs), label)
        kept.pop("last")
        return {**kept, "right_at": self._right_at(outputs, label)}

    def serving(self, model, options):
        """The frames of a video as encoded pictures in, bytes [batch, frames]; labels out.

        A causal model is asked frame by frame too: see the program `stream`.
        """
        streamed = self._streamed(model) if self.streams else {}
        frames = self.shape[0]
        in_time = {"over_time": "timeline"} if self.steps > 1 else {}
        return Serving(
            signature={"frames": self.video.served("frames")},
            decode=lambda served: {"video": self.video.decode(served["frames"])},
            encode=lambda raw: {"frames": self.video.encode(raw["video"])},
            answer=self.answer,
            grade=lambda answers, batch: self.target.graded(answers, batch["label"]),
            units={"video": f"(intensity 0-255 - {self.facts['mean']}) / {self.facts['std']}"},
            media=Media(
                takes={"frames": "video"},
                gives={**self.target.gives, **in_time},
                forms={"frames": self.video.form()},
            ),
            remarks=(
                f"A video is given as {frames} frames: of one of n frames, frame"
                f" floor((i + 1/2) n / {frames}) for each i below {frames}. Frames are JPEG, PNG,"
                " BMP or GIF (its first frame), the centre of the model's proportions is taken.",
                f"Accuracy is measured {self.measured_by(None)['accuracy']}.",
            ),
            **streamed,
        )

    def answer(self, outputs):
        """The label of each video and its probability, and the most probable labels.

        "over_time": the probabilities of these labels at each place in time, [batch, places, k].
        """
        answer = self.target.answer(self._whole(outputs))
        if self.steps == 1:
            return answer
        index = tf.argmax(tf.equal(answer["labels"][..., None], self.target.names), -1, tf.int32)
        in_time = tf.gather(outputs["probability"], index, axis=2, batch_dims=1)
        return {**answer, "over_time": in_time}

    def _streamed(self, model) -> dict:
        """The program that takes one frame after another, and how it is compared."""
        head = model.get_layer("head")
        step = self.model.streamed(model)
        states = [tensor.name for tensor in step.inputs[1:]]

        def stream(frame, **carried):
            ready = standardize(frame, self.facts["mean"], self.facts["std"])
            features, *after = step([ready, *(carried[name] for name in states)], training=False)
            probability = tf.nn.softmax(tf.cast(head(features), tf.float32))
            return {"probability": probability, **dict(zip(states, after, strict=True))}

        first = self.starts[0]
        inputs = {"frame": tf.TensorSpec((None, *self.shape[1:]), tf.uint8)}
        inputs |= {
            name: tf.TensorSpec((None, *tensor.shape[1:]))
            for name, tensor in zip(states, step.inputs[1:], strict=True)
        }
        stepwise = Stepwise(
            step="stream",
            carried=tuple(states),
            unit="frame",
            outputs={"probability": ("probability", "same")},
            unroll=lambda raw: Unrolled(
                given={"frame": raw["video"][:, first : first + self.length]}
            ),
        )
        program = Program(function=stream, inputs=inputs)
        return {"programs": {"stream": program}, "stepwise": stepwise}

    def check_inputs(self, inputs):
        Video.check(inputs)

    def respond(self, trained, inputs, request, write):
        """Labels for videos: [{"input", "label", "score", "top": [[label, score], ...]}]."""
        taken = self.video.take(inputs)
        outputs = trained.predict({"video": taken.values})["probability"]
        whole = {"probability": outputs[:, -1] if self.streams else outputs.mean(1)}
        results = []
        for i, source in enumerate(taken.names):
            said = self.target.said(whole, i, request.top)
            results.append({"input": source, **said})
            write(f"{source}: {', '.join(f'{label} {p:.1%}' for label, p in said['top'])}\n")
        return taken.answered(results)

    def panels(self, split, positions, records):
        """Confusion, measures of each class, reliability, how soon it is right, worst mistakes."""
        places, words = self.target.wrong(records)
        strips = []
        if len(places := places[:SHOWN]):
            videos = self.data.examples(split, positions[places])["video"]
            strips = [filmstrip(video, STRIP_FRAMES) for video in videos]
        title = "Most confident mistakes, in time from left to right"
        return [
            *self.target.panels(records),
            *self._in_time(records),
            self._strips(title, strips, words[:SHOWN]),
        ]

    def _in_time(self, records) -> list[dict]:
        """The share of videos that a causal model is right about at each frame."""
        if not self.streams:
            return []
        right = records["right_at"].mean(0)
        series = [{"name": "", "x": list(range(1, len(right) + 1)), "y": right.tolist()}]
        axes = {"x_label": "frames seen", "y_label": "accuracy", "series": series}
        return [{"kind": "curves", "title": "How soon it is right", "from_zero": True, **axes}]

    def _strips(self, title, strips, captions, caption="") -> dict:
        picture = Picture(shape=(0, 0, strips[0].shape[-1] if strips else 1))
        return picture.panel(title, strips, captions, caption, side=STRIP_PX)

    def training_panels(self, batch):
        """The first clips as the network sees them."""
        pixels = batch["video"][:SHOWN] * np.array(self.facts["std"]) + np.array(self.facts["mean"])
        clips = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        strips = [filmstrip(clip, STRIP_FRAMES) for clip in clips]
        names = [self.target.names[label] for label in batch["label"][:SHOWN]]
        title = "Clips of the first training batch, in time from left to right"
        changes = [
            f"shifted by up to {self.shift} pixels" if self.shift else "",
            "mirrored left-right" if self.flip else "",
            "with other brightness and colours" if self.colours else "",
        ]
        changed = ", ".join(filter(None, changes)) or "without random changes"
        return [self._strips(title, strips, names, f"As the network is given them: {changed}.")]
