"""A toy task from sequences to sequences: an encoder and a decoder that write words backwards.

The smallest user of two inputs of any length, and of steps with a start of their own.
"""

from dataclasses import dataclass

import numpy as np

from tfbig.core.contracts import Task
from tfbig.core.dataset import Dataset
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, tf
from tfbig.core.model import Model
from tfbig.core.serving import Greedy, Media, Program, Serving, Stepwise, Trial, Unrolled
from tfbig.decoding import greedy
from tfbig.media.text import Text

SIZES = {"train": 256, "validation": 40, "test": 40}
LETTERS = "abcdef"
VALUES = 1 + len(LETTERS)
END = 0  # also what stands before the first letter
LONGEST = 10
WIDTH = 24
TEXT = Text()


@dataclass(frozen=True, kw_only=True)
class Words(Dataset):
    """Words of 1 to 10 letters, most of them short, each with its reverse and its end."""

    gives = frozenset({"source", "target"})
    spec = {
        "source": Feature(shape=(None,), dtype="int32", values=VALUES, most=LONGEST),
        "target": Feature(shape=(None,), dtype="int32", values=VALUES, most=LONGEST + 1),
    }

    def size(self, split):
        return SIZES[split]

    def examples(self, split, positions):
        words = [self._word(split, int(i)) for i in positions]
        return {"source": words, "target": [np.append(word[::-1], np.int32(END)) for word in words]}

    def lengths(self, split):
        each = np.array([len(self._word(split, i)) for i in range(SIZES[split])])
        return {"source": each, "target": each + 1}

    def _word(self, split, position):
        random = np.random.default_rng([len(split), position])
        length = int(1 + LONGEST * random.random() ** 2)
        return random.integers(1, VALUES, length).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class EncoderDecoder(Model):
    """Letters and their places, counted from the end; a recurrent layer that looks at them."""

    takes, gives = frozenset({"source", "target"}), frozenset({"logits"})

    def build(self, spec):
        layers = {
            "letters": keras.layers.Embedding(VALUES, WIDTH, name="letters"),
            "places": keras.layers.Embedding(LONGEST + 1, WIDTH, name="places"),
            "last": keras.layers.Embedding(VALUES, WIDTH, name="last"),
            "turns": keras.layers.Embedding(LONGEST + 1, WIDTH, name="turns"),
            "writer": keras.layers.SimpleRNN(WIDTH, return_sequences=True, name="writer"),
            "drop": keras.layers.Dropout(0.02, name="drop"),
            "logits": keras.layers.Dense(VALUES, name="logits"),
        }
        source = keras.Input((None,), dtype="int32", name="source")
        before = keras.Input((None,), dtype="int32", name="before")
        turn = keras.ops.cumsum(keras.ops.ones_like(before), 1) - 1
        query = layers["writer"](layers["last"](before) + layers["turns"](turn))
        logits = self._look(layers, query, *self._remember(layers, source))
        return keras.Model({"source": source, "before": before}, logits)

    def stepwise(self, model):
        """Functional models (encode, step) that share the weights of `model`.

        Encode takes a source [batch, length] to [memory, real]; step takes [last letter [batch],
        its place [batch], state, memory, real] to [logits [batch, values], state].
        """
        layers = {layer.name: layer for layer in model.layers}
        source = keras.Input((None,), dtype="int32")
        encode = keras.Model(source, self._remember(layers, source))
        token, place = (keras.Input((), dtype="int32") for _ in range(2))
        state, memory = keras.Input((WIDTH,)), keras.Input((None, WIDTH))
        real = keras.Input((None,), dtype="bool")
        new, _ = layers["writer"].cell(layers["last"](token) + layers["turns"](place), [state])
        logits = self._look(layers, new[:, None], memory, real)[:, 0]
        return encode, keras.Model([token, place, state, memory, real], [logits, new])

    def _remember(self, layers, source):
        real = source != END
        from_end = keras.ops.flip(keras.ops.cumsum(keras.ops.flip(real, 1), 1), 1)
        return layers["letters"](source) + layers["places"](from_end), real

    def _look(self, layers, query, memory, real):
        scores = keras.ops.matmul(query, keras.ops.swapaxes(memory, 1, 2))
        shares = keras.ops.softmax(keras.ops.where(real[:, None], scores, -1e9))
        seen = keras.ops.matmul(shares, memory)
        return layers["logits"](layers["drop"](keras.ops.concatenate([query, seen], -1)))


@dataclass(frozen=True, kw_only=True)
class Translation(Task):
    """The next letter of the target, from the source and the letters before."""

    primary = ("exact", "max")
    preprocess_on = "device"
    takes = feeds = frozenset({"source", "target"})
    needs = frozenset({"logits"})

    @classmethod
    def smallest(cls, folder):
        return recipe()

    def preprocess(self, raw, training):
        target = raw["target"]
        real = tf.range(target.shape[1])[None] < raw["target_count"][:, None]
        before = tf.pad(target[:, :-1], [(0, 0), (1, 0)], constant_values=END)
        ready = {"source": raw["source"], "before": before, "target": target}
        return {**ready, "real": tf.cast(real, tf.float32)}

    def build(self):
        return self.model.build(self.data.spec)

    def loss(self, model, batch, training):
        given = {name: batch[name] for name in ("source", "before")}
        wrong = _log_probability(model(given, training=training), batch["target"])
        return {"loss": (-tf.reduce_sum(wrong * batch["real"], 1), tf.reduce_sum(batch["real"], 1))}

    def predict(self, model, inputs):
        given = {name: inputs[name] for name in ("source", "before")}
        logits, target = model(given, training=False), inputs["target"]
        return {
            "log_probability": _log_probability(logits, target),
            "right": tf.argmax(logits, -1, tf.int32) == target,
            "made": self._translate(model, inputs["source"], target.shape[1]),
        }

    def _translate(self, model, source, length):
        """The likeliest letters, int32 [batch, length], by one step after another."""
        encode, step = self.model.stepwise(model)
        memory, real = encode(source)

        def go_on(token, place, kept):
            logits, state = step([token, place, kept["state"], kept["memory"], kept["real"]])
            return logits, {"state": state}

        carried, fixed = {"state": tf.zeros_like(memory[:, 0])}, {"memory": memory, "real": real}
        return greedy.search(go_on, carried, fixed, length=length, first=END, end=END)

    def metrics(self, outputs, batch):
        real = batch["real"]
        count = tf.reduce_sum(real, 1)
        right = tf.reduce_sum(tf.cast(outputs["right"], tf.float32) * real, 1)
        wrong = -tf.reduce_sum(outputs["log_probability"] * real, 1)
        return {"loss": (wrong, count), "accuracy": (right, count)}

    def records(self, outputs, batch):
        is_right = outputs["made"] == batch["target"]
        return {"exact": tf.reduce_all(is_right | (batch["real"] == 0), 1)}

    def score(self, statistics):
        return {"exact": float(statistics["exact"].mean())}

    def serving(self, model, options):
        encode, step = self.model.stepwise(model)

        def begin(source):
            memory, real = encode(source)
            return {"memory": memory, "real": real, "state": tf.zeros_like(memory[:, 0])}

        def go_on(token, place, state, memory, real):
            logits, state = step([token, place, state, memory, real])
            return {"logits": logits, "state": state}

        def translate(text):
            source, _ = _numbers(text, LONGEST)
            return {"text": _text(self._translate(model, source, LONGEST + 1))}

        tokens = tf.TensorSpec((None, LONGEST), tf.int32)
        each = tf.TensorSpec((None,), tf.int32)
        kept = {
            "state": tf.TensorSpec((None, WIDTH)),
            "memory": tf.TensorSpec((None, LONGEST, WIDTH)),
            "real": tf.TensorSpec((None, LONGEST), tf.bool),
        }
        return Serving(
            name="score",
            signature={"source": TEXT.served("source"), "target": TEXT.served("target")},
            decode=_decode,
            encode=lambda raw: {
                "source": TEXT.encode([_word(word) for word in raw["source"]]),
                "target": TEXT.encode([_word(word[:-1]) for word in raw["target"]]),
            },
            answer=dict,
            grade=self.metrics,
            records=self.records,
            programs={
                "serving_default": Program(
                    function=translate, inputs={"text": TEXT.served("text")}
                ),
                "encode": Program(function=begin, inputs={"source": tokens}),
                "step": Program(function=go_on, inputs={"token": each, "place": each, **kept}),
            },
            stepwise=Stepwise(
                start="encode",
                fixed=("memory", "real"),
                carried=("state",),
                scores="logits",
                chosen="token",
                first=END,
                end=END,
                position="place",
                unit="letter",
                outputs={
                    "log_probability": ("logits", "log_probability"),
                    "right": ("logits", "likeliest"),
                    "made": ("logits", "greedy"),
                },
                unroll=lambda raw: Unrolled(start={"source": raw["source"]}, choices=raw["target"]),
                greedy=lambda split: self._greedy(model, split),
            ),
            trials=lambda split: self._trials(model, split),
            media=Media(takes={"text": "text"}, gives={"text": "text"}),
        )

    def _greedy(self, model, split):
        """The likeliest letters, by the whole model anew for each."""
        words = self.data.examples(split, np.arange(self.data.size(split)))["source"]
        source = np.array([np.pad(word, (0, LONGEST - len(word))) for word in words])
        before = np.zeros((len(words), LONGEST + 2), np.int32)
        for place in range(LONGEST + 1):
            logits = model({"source": source, "before": before[:, :-1]}, training=False)
            before[:, place + 1] = tf.argmax(logits[:, place], -1)
        return Greedy(start={"source": source}, choices=before[:, 1:])

    def _trials(self, model, split):
        found = self._greedy(model, split)
        made = [_word(row[: (row == END).argmax()] if END in row else row) for row in found.choices]
        words = [_word(row[row != END]) for row in found.start["source"]]
        expected = {"text": TEXT.encode(made)}
        text = {"text": TEXT.encode(words)}
        return [Trial(program="serving_default", inputs=text, expected=expected, unit="word")]


def _log_probability(logits, target):
    return tf.gather(tf.nn.log_softmax(tf.cast(logits, tf.float32)), target, batch_dims=2)


def _word(numbers):
    return "".join(LETTERS[number - 1] for number in numbers)


def _numbers(text, length):
    """Texts as letters int32 [b, length] and how many they are; strange ones are ends."""
    codes = tf.strings.unicode_decode(TEXT.decode(text), "UTF-8")
    codes = codes.to_tensor(shape=(None, length)) - (ord(LETTERS[0]) - 1)
    return tf.where((codes > 0) & (codes < VALUES), codes, END), tf.strings.length(text)


def _text(made):
    letters = tf.gather(tf.constant(["", *LETTERS]), made)
    return tf.strings.reduce_join(letters, axis=1)


def _decode(served):
    source, count = _numbers(served["source"], LONGEST)
    target, length = _numbers(served["target"], LONGEST + 1)
    counts = {"source_count": count, "target_count": length + 1}
    return {"source": source, "target": target, **counts}


def recipe():
    return Experiment(
        name="toy_translation",
        task=Translation(),
        model=EncoderDecoder(),
        data=Words(),
        train=Train(length="60", batch_size=32, shapes=2, evaluate_every="20", save_every="20"),
        optim=Optim(optimizer="adam", learning_rate=0.02),
    )
