"""Image classification: one of N labels for each picture."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.dataset import Dataset
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, np, tf
from tfbig.core.serving import Media, Program, Serving, Trial
from tfbig.data.image_folder import ImageFolder
from tfbig.media.picture import Picture
from tfbig.models.mlp import MLP
from tfbig.nn.heads import with_logits
from tfbig.nn.label_loss import cross_entropy
from tfbig.prep import image as prep
from tfbig.tasks import _classes
from tfbig.tasks._augmented import Augmented

# Examples whose pixels give mean and deviation: the error of the mean is then below 0.1 % of a
# deviation
MEASURED = 50_000
SHOWN_PICTURES = 24  # in a panel of the report
SERVED_LABELS = 5  # most probable labels in a served answer
CLASSIFIED = 64  # pictures that the served `classify` is tried with


@dataclass(frozen=True, kw_only=True)
class Labels(Component):
    """How labels are asked for."""

    top: int = knob(1, "labels for each picture, the most probable first", low=1)


@dataclass(frozen=True, kw_only=True)
class ImageClassification(Augmented):
    """Image classification: softmax over a dataset's labels, cross-entropy loss."""

    label_smoothing: float = knob(
        0.0, "share of the target spread over all labels (Szegedy et al. 2016)", low=0, high=0.9
    )
    class_weights: str = knob(
        "none",
        "balanced: training weighs each class alike, however many pictures it has",
        choices=("none", "balanced"),
    )
    focal: float = knob(
        0.0,
        "exponent by which pictures that are known already count less in the loss (Lin et al."
        " 2017)",
        low=0,
        high=10,
    )

    takes = frozenset({"image", "label"})
    feeds = frozenset({"image"})
    needs = frozenset({"features"})
    primary = ("accuracy", "max")
    metric_units = {"accuracy": "%", "top_5_accuracy": "%", "calibration_error": "%"}
    asked_with = "PICTURE"
    preprocess_on = "device"
    request = Labels

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(crop_padding=1),
            model=MLP.smallest(),
            data=ImageFolder.smallest(folder),
            train=Train(length="60", batch_size=12, evaluate_every="20"),
            optim=Optim(optimizer="adam", learning_rate=0.01),
        )

    def measure(self, data: Dataset) -> dict:
        """Mean and standard deviation of each channel over the training split, of 0-255."""
        size = data.size("train")
        arrays = data.arrays("train")
        rows = np.unique(np.linspace(0, size - 1, min(size, MEASURED)).astype(np.int64))
        portions = np.array_split(rows, max(1, len(rows) // 2048))
        if arrays is None:
            pixels = (data.examples("train", portion)["image"] for portion in portions)
        else:  # training reads them in any case
            pixels = (arrays["image"][portion] for portion in portions)
        channels = prep.channel_statistics(pixels)
        facts = {**channels, "measured": len(rows), "labels": list(data.label_names)}
        if self.class_weights == "balanced":
            facts["class_weights"] = _classes.balanced(_labels(data, rows), len(data.label_names))
        return facts

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels as the model learnt them.

        Saved with the run, so that using it does not need its data.
        """
        return tuple(self.facts["labels"])

    @property
    def picture(self) -> Picture:
        """What pictures the model is given."""
        shape = self.data.spec["image"].shape
        return Picture(shape=shape, background=self.data.background, share=self.data.centre)

    def preprocess(self, raw, training):
        """uint8 [batch, height, width, channels] to float32 of mean 0 and deviation 1.

        Random changes while training only.
        """
        image = self.changed(raw["image"], raw["key"]) if training else raw["image"]
        ready = {"image": prep.standardize(image, self.facts["mean"], self.facts["std"])}
        if "label" in raw:
            ready["label"] = raw["label"]
        return self.mixed(ready, raw["key"]) if training and self.mixes else ready

    def build(self) -> keras.Model:
        shape = self.data.spec["image"].shape
        self.check_changes(shape)
        body = self.model.build(
            {"image": Feature(shape=shape, dtype="float32", unit="standard deviations")}
        )
        name = type(self.model).__name__.lower()
        return with_logits(body, body.output, len(self.labels), name)

    def loss(self, model, batch, training):
        logits = model(batch["image"], training=training)
        losses, hits, weight = self._learnt(logits, batch["label"])
        if "other" in batch:  # two pictures in one
            share = batch["share"]
            rest = 1 - share
            other = self._learnt(logits, batch["other"])
            losses = share * weight * losses + rest * other[2] * other[0]
            weight = share * weight + rest * other[2]
            losses /= weight
            hits = share * hits + rest * other[1]
        return {"loss": (losses * weight, weight), "accuracy": (hits, tf.ones_like(hits))}

    def _learnt(self, logits, label):
        """Of one label for each picture: loss, whether it is the likeliest one, its weight."""
        losses = cross_entropy(logits, label, self.label_smoothing, self.focal)
        hits = tf.equal(tf.argmax(logits, -1, tf.int32), tf.cast(label, tf.int32))
        weight = tf.ones_like(losses)
        if self.class_weights == "balanced":
            weight = tf.gather(tf.constant(self.facts["class_weights"], losses.dtype), label)
        return losses, tf.cast(hits, tf.float32), weight

    def predict(self, model, inputs):
        """Logits and probability [batch, labels], and the most probable label [batch]."""
        logits = tf.cast(model(inputs["image"], training=False), tf.float32)
        return {
            "logits": logits,
            "probability": tf.nn.softmax(logits),
            "label": tf.argmax(logits, -1, tf.int32),
        }

    def metrics(self, outputs, batch):
        """Accuracy, top-5 accuracy (given more than 10 labels) and cross-entropy in nats.

        The cross-entropy is unsmoothed.
        """
        label = tf.cast(batch["label"], tf.int32)
        logits = outputs["logits"]
        ones = tf.ones_like(logits[:, 0])
        measured = {
            "accuracy": (tf.cast(tf.equal(outputs["label"], label), tf.float32), ones),
            "loss": (tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits), ones),
        }
        if logits.shape[-1] > 10:
            own = tf.gather(logits, label, axis=1, batch_dims=1)
            rank = tf.reduce_sum(tf.cast(logits > own[:, None], tf.int32), axis=1)
            measured["top_5_accuracy"] = (tf.cast(rank < 5, tf.float32), ones)
        return measured

    def records(self, outputs, batch):
        """The label said, the true one, and the probability of the said one, each [batch]."""
        confidence = tf.reduce_max(outputs["probability"], -1)
        true = tf.cast(batch["label"], tf.int32)
        return {"label": outputs["label"], "true": true, "confidence": confidence}

    def score(self, statistics):
        """Expected calibration error (Guo et al. 2017)."""
        confidence = statistics["confidence"]
        if not np.isfinite(confidence).all():  # of a model that has diverged
            return {"calibration_error": None}
        right = statistics["label"] == statistics["true"]
        return {"calibration_error": _classes.calibration_error(confidence, right)}

    def serving(self, model, options):
        """Encoded pictures (JPEG, PNG, BMP, GIF) in, bytes [batch]; names and probabilities out."""
        answers = {"label": "label", "probability": "number"}
        best = {"labels": "label", "probabilities": "probabilities"}
        return Serving(
            signature={"image_bytes": self.picture.served("image_bytes")},
            decode=self.decode,
            encode=self.encode,
            answer=self.answer,
            grade=self.grade,
            records=self._answered_records,
            units={"image": self._unit()},
            programs={"classify": self._classify(model)},
            trials=functools.partial(self._classified, model),
            media=Media(
                takes={"image_bytes": "picture"},
                gives={**answers, **best},
                forms={"image_bytes": self.picture.form()},
            ),
            remarks=(
                f"Pictures are taken as {Picture.taken}. WebP, TIFF, BMPs with a palette of colours"
                " and torn files are refused.",
            ),
        )

    def _unit(self) -> str:
        """What the numbers of a model-ready picture are, in words."""
        mean, std = (
            text.strip("[]") if len(self.facts["mean"]) == 1 else text
            for text in (str(self.facts["mean"]), str(self.facts["std"]))
        )
        return f"(intensity 0-255 - {mean}) / {std}"

    def decode(self, served):
        """Encoded pictures to uint8 [batch, height, width, channels]."""
        return {"image": self.picture.decode(served["image_bytes"])}

    def check_inputs(self, inputs):
        Picture.check(inputs)

    def respond(self, trained, inputs, request, write):
        """Labels for pictures.

        [{"input", "label", "probability", "top": [[label, probability], ...]}].
        """
        taken = self.picture.take(inputs)
        probability = trained.predict({"image": taken.values})["probability"]
        names = self.labels
        results = []
        for source, row in zip(taken.names, probability, strict=True):
            best = [
                [names[i], float(row[i])] for i in np.argsort(-row, kind="stable")[: request.top]
            ]
            results.append(
                {"input": source, "label": best[0][0], "probability": best[0][1], "top": best}
            )
            write(f"{source}: {', '.join(f'{label} {share:.1%}' for label, share in best)}\n")
        return taken.answered(results)

    def encode(self, raw):
        """uint8 [n, height, width, channels] to PNG bytes [n].

        Pictures that are encoded already stay as they are.
        """
        return {"image_bytes": self.picture.encode(raw["image"])}

    def answer(self, outputs):
        """Returns label [batch] and its probability [batch].

        Labels and probabilities [batch, k], the most probable first.
        """
        names = tf.constant(self.labels)
        probabilities, index = tf.math.top_k(
            outputs["probability"], min(SERVED_LABELS, len(self.labels))
        )
        labels = tf.gather(names, index)
        return {
            "label": labels[:, 0],
            "probability": probabilities[:, 0],
            "labels": labels,
            "probabilities": probabilities,
        }

    def _classify(self, model) -> Program:
        """Pictures as tf.Examples, serialised, for TensorFlow Serving's Classify.

        Gives names and scores [batch, k].
        """

        def classify(inputs):
            encoded = tf.io.parse_example(
                inputs, {"image_bytes": tf.io.FixedLenFeature([], tf.string)}
            )
            answer = self.answer(self.predict(model, self.preprocess(self.decode(encoded), False)))
            return {"classes": answer["labels"], "scores": answer["probabilities"]}

        return Program(function=classify, inputs={"inputs": tf.TensorSpec([None], tf.string)})

    def _classified(self, model, split: str) -> list[Trial]:
        """The first pictures of the split, classified."""
        positions = np.arange(min(CLASSIFIED, self.data.size(split)))
        raw = self.data.examples(split, positions)
        sent = self.encode({**raw, **self.data.encoded(split, positions)})["image_bytes"]

        def example(content):
            return tf.train.Example(
                features=tf.train.Features(
                    feature={
                        "image_bytes": tf.train.Feature(
                            bytes_list=tf.train.BytesList(value=[content])
                        )
                    }
                )
            )

        inputs = np.array([example(content).SerializeToString() for content in sent], object)
        answer = self.answer(
            self.predict(model, self.preprocess({"image": tf.constant(raw["image"])}, False))
        )
        expected = {"classes": answer["labels"].numpy(), "scores": answer["probabilities"].numpy()}
        return [Trial(program="classify", inputs={"inputs": inputs}, expected=expected)]

    def grade(self, answers, batch):
        """Accuracy, and top-5 accuracy (given more than 10 labels), from the names answered."""
        true = tf.gather(tf.constant(self.labels), batch["label"])
        ones = tf.ones_like(answers["probability"])
        graded = {"accuracy": (tf.cast(tf.equal(answers["label"], true), tf.float32), ones)}
        if len(self.labels) > 10:
            among = tf.reduce_any(tf.equal(answers["labels"], true[:, None]), axis=1)
            graded["top_5_accuracy"] = (tf.cast(among, tf.float32), ones)
        return graded

    def _answered_records(self, answers, batch):
        """As `records`, from nothing but answers."""
        said = tf.equal(answers["label"][:, None], tf.constant(self.labels))
        return {
            "label": tf.argmax(said, -1, tf.int32),
            "true": tf.cast(batch["label"], tf.int32),
            "confidence": answers["probability"],
        }

    def panels(self, split, positions, records):
        """Confusion matrix, measures of each class, reliability, and most confident mistakes."""
        true, said, confidence = (records[name] for name in ("true", "label", "confidence"))
        names = self.labels
        wrong = np.flatnonzero(said != true)
        wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN_PICTURES]
        pictures = self.data.examples(split, positions[wrong])["image"] if len(wrong) else []
        captions = [
            f"true {names[true[i]]}\nsaid {names[said[i]]}, {confidence[i]:.1%}" for i in wrong
        ]
        mistakes = self.picture.panel("Most confident mistakes", pictures, captions)
        return [*_classes.panels(names, true, said, confidence), mistakes]

    def training_panels(self, batch):
        """The first pictures of training with their labels."""
        pictures = batch["image"][:SHOWN_PICTURES] * np.array(self.facts["std"]) + np.array(
            self.facts["mean"]
        )
        pictures = np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
        captions = [self.labels[label] for label in batch["label"][:SHOWN_PICTURES]]
        if "other" in batch:
            mixed = zip(captions, batch["other"], batch["share"], strict=False)
            captions = [
                f"{own} {share:.0%}, {self.labels[other]} {1 - share:.0%}"
                for own, other, share in mixed
            ]
        caption = f"As the network is given them: {self.changes_in_words}."
        title = "Pictures of the first training batch"
        return [self.picture.panel(title, pictures, captions, caption)]


def _labels(data: Dataset, rows: np.ndarray) -> np.ndarray:
    """Of the training split, or of `rows` where a dataset does not know them by heart."""
    labels = data.labels("train")
    if labels is None:
        portions = np.array_split(rows, max(1, len(rows) // 2048))
        labels = np.concatenate([data.examples("train", part)["label"] for part in portions])
    return labels
