"""Object detection: boxes around the things in a picture, and what each is."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.dataset import Dataset
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, np, tf
from tfbig.core.serving import Media, Serving
from tfbig.data.detection_folder import DetectionFolder
from tfbig.decoding import centres
from tfbig.media.picture import WholePicture, with_boxes
from tfbig.metrics import average_precision, detection_errors
from tfbig.models.resnet_fpn import ResNetFPN
from tfbig.nn.heads import exact_dtype
from tfbig.prep import boxes as boxing
from tfbig.prep import image as prep

MEASURED = 2_000  # training pictures that statistics and the check of targets look at
TOGETHER = 16  # of them
LEAST_ORACLE = 0.99  # AP50 of the true boxes, drawn as targets and found again
FOCUS, FAR = 2, 4  # exponents of the focal loss (Law and Deng 2018, "CornerNet")
RARE = 0.01  # how likely a class is anywhere, before anything is learnt
LEAST_SEEN = 0.25  # share of a box inside the picture, below which a crop takes it away
LEAST_SIDE_PX = 2.0
REPORTED = 0.3  # score of boxes that a report shows and counts
SHOWN_PICTURES, SIDE_PX = 12, 360
TRUE_COLOUR, FOUND_COLOUR = "#00a060", "#ff8c00"
FLIPS = {"none": (False, False), "sideways": (False, True), "all": (True, True)}


@dataclass(frozen=True, kw_only=True)
class Threshold(Component):
    """Which boxes are told."""

    least: float = knob(0.3, "score that a box must have", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class ObjectDetection(Task):
    """Object detection by centres and edges, without anchors or suppression (CenterNet, TTFNet).

    Zhou et al. 2019; Liu et al. 2020.
    """

    zoom: float = knob(
        1.0, "training: pictures are scaled at random by up to so much, either way", low=1, high=8
    )
    flip: str = knob("sideways", "training: mirror at random", choices=tuple(FLIPS))
    colours: float = knob(
        0.0, "training: random change of brightness, contrast and colour", low=0, high=0.9
    )
    edge_weight: float = knob(5.0, "of the edges' loss, beside that of the centres", above=0)
    head_width: int = knob(64, "channels of the last convolutions", low=1)
    most_found: int = knob(100, "boxes that are told of a picture at most", low=1, high=1000)
    least_score: float = knob(
        0.01, "boxes below it are left out; average precision needs those of low score", low=0
    )

    takes = frozenset({"image", "boxes"})
    feeds = frozenset({"image"})
    needs = frozenset({"pyramid"})
    primary = ("ap", "max")
    metric_units = dict.fromkeys(
        ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar"), "%"
    )
    asked_with = "PICTURE"
    preprocess_on = "device"
    request = Threshold

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(head_width=16, zoom=1.1, most_found=20),
            model=ResNetFPN.smallest(),
            data=DetectionFolder.smallest(folder),
            train=Train(length="90", batch_size=12, evaluate_every="30"),
            optim=Optim(optimizer="adam", learning_rate=0.01, clip_norm=5.0),
        )

    def measure(self, data: Dataset) -> dict:
        """Mean and standard deviation of each channel over the training split, of 0-255."""
        pixels = (data.examples("train", rows)["image"] for rows in _looked_at(data))
        return {**prep.channel_statistics(pixels), "labels": list(data.label_names)}

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes as the model learnt them."""
        return tuple(self.facts["labels"])

    @property
    def picture(self) -> WholePicture:
        return WholePicture(shape=self.data.shape, background=self.data.background)

    def preprocess(self, raw, training):
        """Pictures of mean 0 and deviation 1; true boxes, in the pixels that the model sees too.

        "places" [b, n, 4] are the boxes there, "real" which of them can be learnt, "quiet" the
        crowds, inside which nothing is.
        """
        height, width = self.data.shape[:2]
        image = raw["image"]
        ready = {"size": raw["size"]}
        scale = boxing.scale_inside(raw["size"], height, width)
        zoomed = None
        if training:
            inside = boxing.fitted(raw["size"], height, width)
            flips = FLIPS[self.flip]
            zoomed = boxing.drawn_zoom(raw["key"], inside, height, width, self.zoom, flips)
            if self.colours:
                image = prep.random_colours(image, raw["key"], self.colours, inside)
            image = prep.resample(image, *zoomed)
        ready["image"] = prep.standardize(image, self.facts["mean"], self.facts["std"])
        if "boxes" in raw:
            places = boxing.scaled(raw["boxes"], scale)
            moved = places if zoomed is None else boxing.moved(places, *zoomed, height, width)
            visible = boxing.clipped(moved, tf.constant([height, width], tf.float32))
            seen = boxing.area(visible) >= LEAST_SEEN * boxing.area(moved)
            sides = tf.reduce_min(visible[..., 2:] - visible[..., :2], -1)
            large = sides >= LEAST_SIDE_PX
            given = tf.range(tf.shape(places)[1])[None] < raw["boxes_count"][:, None]
            single = raw["crowds"] == 0
            ready |= {name: raw[name] for name in ("boxes", "classes", "crowds", "boxes_count")}
            ready |= {"places": visible, "real": given & single & seen & large}
            ready["quiet"] = given & ~single
        return ready

    def build(self) -> keras.Model:
        """The model, with its finest map turned into classes' scores and edges' distances."""
        shape = self.data.shape
        body = self.model.build(
            {"image": Feature(shape=shape, dtype="float32", unit="standard deviations")}
        )
        finest = body.outputs[0]
        rare = keras.initializers.Constant(float(np.log(RARE / (1 - RARE))))
        heat = self._head(finest, len(self.labels), "heat", rare)
        edges = self._head(finest, 4, "edges", "zeros")
        return keras.Model(body.input, [heat, edges], name="detector")

    def preview(self, model):
        """How many true boxes the targets hold, and their AP50 when they are found again.

        Raises:
            UserError: the targets lose too many of the true boxes, so no training could find them.
        """
        number = covered = crowded = 0
        kept = []
        heat = model.outputs[0]
        stride = self.data.shape[0] // heat.shape[1]
        most = min(self.most_found, average_precision.MOST_FOUND)
        for positions in _looked_at(self.data):
            raw = self.data.examples("train", positions)
            batch = self.preprocess(boxing.padded_truth(raw, self.data.most_boxes), False)
            true = centres.draw(
                batch["places"], batch["classes"], batch["real"], heat.shape[1:], stride
            )
            covered += int(tf.reduce_sum(tf.cast(true.covered, tf.int32)))
            found = centres.find(true.heat, true.distances, stride, self.most_found)
            told = self._told(found, batch["size"])
            rows = {name: x.numpy() for name, x in self.records(told, batch).items()}
            few = rows["true_count"] <= most
            number += int(rows["true_count"].sum() - rows["true_crowd"].sum())
            crowded += int((~few).sum())
            kept.append({name: x[few] for name, x in rows.items()})
        records = {name: np.concatenate([rows[name] for rows in kept]) for name in kept[0]}
        value = self.score(self.examine(records))["ap50"] if len(records["count"]) else None
        if not number:
            raise UserError("data: the training pictures hold no box. Expected at least one.")
        if value is not None and value < LEAST_ORACLE:
            raise UserError(
                f"task: the targets hold {covered:,} of {number:,} true boxes; found again without"
                f" a mistake they reach AP50 {value:.1%}, less than {LEAST_ORACLE:.0%}. Give"
                " pictures more pixels with data.height and data.width, or the model a finer map."
            )
        reached = "" if value is None else f", AP50 {value:.1%} when found again"
        lines = [f"targets: {covered:,} of {number:,} boxes{reached}"]
        if crowded:
            lines.append(
                f"{crowded:,} training pictures hold more boxes than the {most} that can be told"
                " of one: see task.most_found; average precision counts 100 of a class"
            )
        return lines

    def _head(self, finest, channels: int, name: str, bias):
        layers = keras.layers
        x = layers.Conv2D(
            self.head_width, 3, padding="same", activation="relu", name=f"{name}_conv"
        )(finest)
        small = keras.initializers.RandomNormal(stddev=0.01)
        last = {"kernel_initializer": small, "bias_initializer": bias, "dtype": exact_dtype()}
        return layers.Conv2D(channels, 1, name=name, **last)(x)

    def _maps(self, model, image, training: bool) -> tuple[tf.Tensor, tf.Tensor, int]:
        """Scores before the sigmoid [b, h, w, c], distances in pixels [b, h, w, 4], the stride."""
        heat, edges = model(image, training=training)
        stride = image.shape[1] // heat.shape[1]
        return heat, tf.nn.softplus(edges) * (4.0 * stride), stride

    def loss(self, model, batch, training):
        """Focal loss of centres and GIoU loss of edges, for each true box.

        A picture weighs as much as it has boxes, one without any as much as one box.
        """
        heat, distances, stride = self._maps(model, batch["image"], training)
        true = centres.draw(
            batch["places"], batch["classes"], batch["real"], heat.shape[1:], stride
        )
        score = tf.sigmoid(heat)
        found = tf.pow(1 - score, FOCUS) * tf.nn.softplus(-heat)
        missed = tf.pow(1 - true.heat, FAR) * tf.pow(score, FOCUS) * tf.nn.softplus(heat)
        quiet = centres.covers(batch["places"], batch["quiet"], heat.shape[1:], stride)
        missed = tf.where(quiet[..., None], 0.0, missed)
        focal = tf.reduce_sum(tf.where(true.heat >= 1.0, found, missed), (1, 2, 3))
        wrong = true.weight * (1 - centres.giou(distances, true.distances))
        edges = tf.reduce_sum(wrong, (1, 2))
        number = tf.reduce_sum(tf.cast(batch["real"], tf.float32), 1)
        weight = tf.maximum(number, 1.0)
        return {
            "loss": (focal + self.edge_weight * edges, weight),
            "centres": (focal, weight),
            "edges": (edges, number),
        }

    def predict(self, model, inputs):
        """Boxes [b, n, 4] in pixels of the pictures as they were, scores, classes, and the count.

        The surest first; behind the count zeros.
        """
        heat, distances, stride = self._maps(model, inputs["image"], False)
        found = centres.find(tf.sigmoid(heat), distances, stride, self.most_found)
        return self._told(found, inputs["size"])

    def _told(self, found: dict, size: tf.Tensor) -> dict:
        """Boxes that maps show, as what is told of pictures of these sizes [b, 2]."""
        scale = boxing.scale_inside(size, *self.data.shape[:2])
        boxes = boxing.clipped(boxing.scaled(found["boxes"], 1 / scale), size)
        told = (found["scores"] >= self.least_score) & (found["scores"] > 0)
        told &= boxing.area(boxes) > 0
        # Those that are not told are moved behind the others, which stay in their order
        order = tf.argsort(tf.cast(~told, tf.int32), axis=1, stable=True)
        told = tf.gather(told, order, batch_dims=1)
        outputs = {"count": tf.reduce_sum(tf.cast(told, tf.int32), 1)}
        for name, value in {**found, "boxes": boxes}.items():
            value = tf.gather(value, order, batch_dims=1)
            shown = told[..., None] if name == "boxes" else told
            outputs[name] = tf.where(shown, value, tf.zeros_like(value))
        return outputs

    def metrics(self, outputs, batch):
        return {}

    def records(self, outputs, batch):
        """What is told of each picture, and the true boxes."""
        most = self.data.most_boxes
        true = {"boxes": "boxes", "classes": "classes", "crowds": "crowd"}
        kept = {f"true_{new}": boxing.padded(batch[name], most) for name, new in true.items()}
        names = ("boxes", "scores", "classes", "count")
        told = {name: outputs[name] for name in names}
        return {**told, **kept, "true_count": batch["boxes_count"]}

    def examine(self, records):
        return average_precision.match(records, len(self.labels))

    def score(self, statistics):
        return average_precision.summary(statistics)

    def serving(self, model, options):
        """Encoded pictures in; boxes in their pixels, scores, classes, labels and a count out."""

        def answer(outputs):
            names = tf.gather(tf.constant(self.labels), outputs["classes"])
            told = tf.range(names.shape[1])[None] < outputs["count"][:, None]
            return {**outputs, "labels": tf.where(told, names, "")}

        return Serving(
            signature={"image_bytes": self.picture.served("image_bytes")},
            decode=self.decode,
            encode=self.encode,
            answer=answer,
            grade=self.metrics,
            records=self.records,
            units={
                "image": f"(intensity 0-255 - {self.facts['mean']}) / {self.facts['std']}",
                "size": "height and width of the picture before it was made to fit, in pixels",
            },
            media=Media(
                takes={"image_bytes": "picture"},
                gives={"boxes": "boxes", "labels": "label", "scores": "probabilities"},
                forms={"image_bytes": self.picture.form()},
            ),
            remarks=(
                f"Pictures are taken as {WholePicture.taken}; they are made to fit inside"
                f" {self.data.shape[0]} x {self.data.shape[1]} pixels, nothing is cut off. Boxes"
                " are top, left, bottom, right in the pixels of the picture as it was given;"
                f" there are at most {self.most_found}, the surest first, behind `count` zeros.",
                f"Average precision: {average_precision.SIGNATURE}.",
            ),
        )

    def decode(self, served):
        """Encoded pictures to uint8 [batch, height, width, 3] and their sizes [batch, 2]."""
        image, size = self.picture.decode(served["image_bytes"])
        return {"image": image, "size": size}

    def encode(self, raw):
        """Pictures as their owner stores them, or of the model's own size, to bytes [n]."""
        image = raw["image"]
        is_stored = isinstance(image, np.ndarray) and image.dtype == np.dtype(object)
        if not is_stored and not np.all(np.asarray(raw["size"]) == self.data.shape[:2]):
            raise UserError(
                "image: expected pictures as they are stored, or of the size that the model sees:"
                " others lost pixels when they were made to fit."
            )
        return {"image_bytes": self.picture.encode(image)}

    def check_inputs(self, inputs):
        WholePicture.check(inputs)

    def respond(self, trained, inputs, request, write):
        """Boxes of pictures: [{"input", "boxes": [{"label", "score", "box"}]}]."""
        taken = self.picture.take(inputs)
        if not taken.names:
            return taken.answered([])
        image, size = (np.stack(values) for values in zip(*taken.values, strict=True))
        found = trained.predict({"image": image, "size": size})
        results = []
        for row, source in enumerate(taken.names):
            count = found["count"][row]
            boxes = [
                {
                    "label": self.labels[found["classes"][row, i]],
                    "score": float(found["scores"][row, i]),
                    "box": [round(float(x), 1) for x in found["boxes"][row, i]],
                }
                for i in range(count)
                if found["scores"][row, i] >= request.least
            ]
            results.append({"input": source, "boxes": boxes})
            write(_lines(source, boxes))
        return taken.answered(results)

    def panels(self, split, positions, records):
        """Curves and average precision of each class, mistakes by kind, pictures with boxes."""
        names = self.labels
        return [
            *average_precision.panels(self.examine(records), names),
            detection_errors.panel(records, names, REPORTED),
            self._pictures(split, positions, records),
        ]

    def _pictures(self, split, positions, records) -> dict:
        """Pictures with the true boxes (green) and those that were found (orange)."""
        rows = np.linspace(0, len(positions) - 1, min(SHOWN_PICTURES, len(positions))).astype(int)
        raw = self.data.examples(split, positions[rows])
        shown, captions = [], []
        for row, image, size in zip(rows, raw["image"], raw["size"], strict=True):
            scale = boxing.scale_inside(tf.constant(size), *self.data.shape[:2]).numpy()
            scale = np.tile(scale, 2)
            sure = records["scores"][row] >= REPORTED
            true = records["true_boxes"][row][: records["true_count"][row]]
            marked = with_boxes(image, true * scale, TRUE_COLOUR, 3)
            shown.append(with_boxes(marked, records["boxes"][row][sure] * scale, FOUND_COLOUR))
            captions.append(f"{len(true)} true, {int(sure.sum())} found")
        caption = f"Green: true boxes. Orange: found, of a score of at least {REPORTED:g}."
        return self.picture.panel("True and found boxes", shown, captions, caption, side=SIDE_PX)

    def training_panels(self, batch):
        """The first pictures as the network sees them, with the boxes that it should find."""
        image = batch["image"] * np.array(self.facts["std"]) + np.array(self.facts["mean"])
        image = np.clip(np.rint(image), 0, 255).astype(np.uint8)[:SHOWN_PICTURES]
        rows = range(len(image))
        shown = [
            with_boxes(image[i], batch["places"][i][batch["real"][i]], TRUE_COLOUR) for i in rows
        ]
        captions = [f"{int(batch['real'][i].sum())} boxes" for i in rows]
        title = "Training pictures as the network sees them"
        return [self.picture.panel(title, shown, captions, side=SIDE_PX)]


def _looked_at(data: Dataset) -> list[np.ndarray]:
    """Positions of training pictures from which statistics come, some at a time."""
    size = data.size("train")
    rows = np.unique(np.linspace(0, size - 1, min(size, MEASURED)).astype(np.int64))
    return np.array_split(rows, -(-len(rows) // TOGETHER) or 1)


def _lines(source: str, boxes: list[dict]) -> str:
    """Lines about one picture's boxes."""
    lines = [f"{source}: {len(boxes)} {'box' if len(boxes) == 1 else 'boxes'}"]
    for box in boxes:
        top, left, bottom, right = (round(x) for x in box["box"])
        place = f"top {top}, left {left}, bottom {bottom}, right {right}"
        lines.append(f"  {box['label']} {box['score']:.1%}: {place}")
    return "\n".join(lines) + "\n"
