"""What leaves with a trained model, and how it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    Tensors = dict[str, tf.Tensor]
    Arrays = dict[str, np.ndarray]
    Measured = dict[str, tuple[tf.Tensor, tf.Tensor]]

MEDIA = ("picture", "text", "tokens", "samples", "video", "sequence", "state")
"""What people can give: "samples" of a recording, a "sequence" such as DNA, the "state" of a
game."""

KINDS = (
    *("label", "probabilities", "text", "tokens", "number", "picture", "boxes", "audio", "state"),
    *("timeline", "pieces", "alignment", "effects", "words"),
)
"""What people are answered: labels, the likeliest first, and their probabilities in that order;
"timeline" [places, n]: these probabilities at each place in time; text; numbers; "boxes" [n, 4]:
top, left, bottom, right in pixels of the picture as it was given;
"picture" as bytes or intensities; "audio" as bytes of WAV; "pieces" of a text [n], empty ones
behind its end; "alignment" [n, m]: how much each of the n pieces that come first looked at each of
the m that come second; "words": lines "start end word" of a recording, in seconds; "effects"
[n, 4]: of putting A, C, G or T in each place of the "sequence" that was asked about, positive where
it makes the answer likelier; ..."""

MEASURES = ("same", "log_probability", "likeliest", "greedy")
"""How a step's output becomes one of `Task.predict`: as it is; the log-probability, in nats, of
what is chosen next; whether that is the likeliest; what is chosen where the likeliest is chosen
each time, int32, with zeros behind the end."""


@dataclass(frozen=True, kw_only=True)
class Media:
    """What people give a served model and are answered, by the names of one of its signatures.

    Attributes:
        takes: input -> one of MEDIA; inputs that no person gives are left out.
        gives: output -> one of KINDS; outputs that no person reads are left out.
        forms: input -> what its medium says of itself as JSON values, such as sizes, a rate or
            letters; see `form` of tfbig/media.
        signature: that one; another than serving_default answers people more than programs need.
    """

    takes: dict[str, str] = field(default_factory=dict)
    gives: dict[str, str] = field(default_factory=dict)
    forms: dict[str, dict[str, Any]] = field(default_factory=dict)
    signature: str = "serving_default"

    def __post_init__(self):
        for side, known in (("takes", MEDIA), ("gives", KINDS)):
            for name, kind in getattr(self, side).items():
                if kind not in known:
                    raise ValueError(
                        f"media.{side}.{name}: expected one of {', '.join(known)}. Received:"
                        f" {kind!r}."
                    )

    def to_json(self) -> dict[str, dict[str, Any]]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Program:
    """One function that leaves with a trained model, as a signature of the served model.

    Attributes:
        function: keyword arguments, tensors by name -> tensors by name; core TensorFlow operations
            only.
        inputs: name -> tensor specification with a batch axis, or a scalar's.
    """

    function: Callable[..., Tensors]
    inputs: dict[str, tf.TensorSpec]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a program must answer, wherever it runs.

    Texts and whole numbers exactly, others but for rounding.

    Attributes:
        program: its name.
        inputs: name -> array; those with rows are given in calls of at most 256.
        expected: output name -> array.
        unit, counts: what is made, such as a token, and the output that says how much of it: for
            the throughput that is reported.
    """

    program: str
    inputs: Arrays
    expected: Arrays
    unit: str = "example"
    counts: str | None = None


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """Examples as steps are given them, to compare what the steps make with `Task.predict`.

    Attributes:
        start: inputs of the program that starts, name -> [n, ...].
        given: what each step is given anew, name -> [n, steps, ...].
        choices: what is chosen, one after another, whatever the scores are, int [n, choices].
    """

    start: Arrays = field(default_factory=dict)
    given: Arrays = field(default_factory=dict)
    choices: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """What is chosen where the likeliest is chosen each time.

    Attributes:
        start: inputs of the program that starts, name -> [n, ...].
        choices: int [n, choices]; behind an end what would be chosen if it went on.
    """

    start: Arrays
    choices: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Stepwise:
    """How a served model is asked step by step, by two of its programs or one.

    A step takes what is carried over, what is fixed, what was chosen last and its place. Its other
    inputs are given anew each time, such as a frame or an observation. ONNX holds these programs,
    each in a file of its name.

    Example, a language model: start takes tokens and their count, and gives logits and a cache;
    a step takes token, position and cache, and gives logits and a cache.
        Stepwise(start="prefill", carried=("cache_0", "cache_1"), scores="logits", chosen="token",
                 position="position", count="count", ...)
    Example, a translator: start takes the source, and gives its memory and an empty cache.
        Stepwise(start="encode", fixed=("memory",), carried=("cache_0",), scores="logits",
                 chosen="token", first=1, position="position", ...)
    Example, a recogniser of a stream: a step takes a frame and the state.
        Stepwise(carried=("state",), ...)

    Attributes:
        step, start: the programs' names; without a start, what is carried begins as zeros.
        carried: outputs of start and of each step that are inputs of the next step.
        fixed: outputs of start that each step is given unchanged.
        scores: the output that is chosen from, [batch, values]; empty where nothing is chosen.
        chosen: the step's input that takes the last choice, int32 [batch].
        first: what stands for a last choice in the first step, where start gives no scores.
        end: the choice behind which nothing more is chosen; -1: none, or it is not told here.
        position: the step's input that takes the choice's place, int32 [batch].
        count: the input of start that says how many places it takes, int32 [batch].
        unit: what a step makes, in words.
        outputs: output of `Task.predict` -> (output of a step, one of MEASURES): its second axis
            are the outputs of start, if it gives scores, and of the steps.
        unroll: from raw examples, name -> [n, ...], to what steps are given of them. What has a
            free axis is padded to the most that it holds, and so many steps are made: what
            `Task.predict` gives behind a row's end is compared too.
        greedy: what must be chosen, of a split's examples; None where nothing is chosen.
    """

    step: str = "step"
    start: str = ""
    carried: tuple[str, ...]
    fixed: tuple[str, ...] = ()
    scores: str = ""
    chosen: str = ""
    first: int = 0
    end: int = -1
    position: str = ""
    count: str = ""
    unit: str = "step"
    outputs: dict[str, tuple[str, str]]
    unroll: Callable[[Arrays], Unrolled]
    greedy: Callable[[str], Greedy] | None = None

    @property
    def programs(self) -> tuple[str, ...]:
        return (self.start, self.step) if self.start else (self.step,)

    def to_json(self) -> dict[str, Any]:
        """What callers that ask step by step need, as artefact.json holds it."""
        places = ("scores", "chosen", "first", "end", "position", "count")
        names = ("step", "start", *places, "unit")
        lists = {name: list(getattr(self, name)) for name in ("carried", "fixed")}
        return {**{name: getattr(self, name) for name in names}, **lists}


def _nothing(split: str) -> list[Trial]:
    return []


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A trained model as it is served.

    Attributes:
        signature: what it receives, name -> tensor specification with a batch axis (encoded
            images, text, samples).
        decode: served inputs to raw examples as `Task.preprocess` takes them, with as much of them
            as `Task.predict` needs: of a picture no true boxes. What has a free axis is padded to
            the most that it holds, with its NAME_count.
        encode: raw examples, as `Dataset.examples` gives them, to served inputs without loss, the
            reverse of `decode`: how it is examined on a split. A part that comes as bytes [n] is as
            its owner stores it (see `Dataset.encoded`), and is what users send.
        answer: outputs of `Task.predict` to what people are answered: names, probabilities, text;
            each [batch, ...]. Of a task that plays, they are enough for `Task.play`.
        grade: metrics as in `Task.metrics`, the primary one among them unless it is one of
            `Task.score`, from nothing but answers and a model-ready batch. Of a task that plays,
            its own metrics: the artefact plays the split's episodes.
        records: as `Task.records`, from nothing but answers and a model-ready batch, where
            `Task.score` has metrics.
        name: the signature that takes what `signature` says and gives what `answer` says: the one
            a whole split is put through. Another than serving_default where what people ask for is
            one of `programs`, such as a translation of what has no target yet.
        units: what the numbers of model-ready examples are, in words, for callers of the signature
            `tensors`: name -> text.
        programs: further signatures, besides `name` and `tensors`.
        by_place: signatures whose answer to a row depends on its place among the rows, such as
            choices by a fixed seed: rows of several requests are not answered together.
        stepwise: how it is asked step by step; None: it is not.
        trials: what the further programs must answer, of a split's examples.
        media: what people give, and what they are answered.
        assets: JSON values that users need besides the programs, such as a vocabulary: file name ->
            value.
        remarks: sentences for the model card: how to use it, and what it cannot do.
    """

    signature: dict[str, tf.TensorSpec]
    decode: Callable[[Tensors], Tensors]
    encode: Callable[[Arrays], Arrays]
    answer: Callable[[Tensors], Tensors]
    grade: Callable[[Tensors, Tensors], Measured]
    records: Callable[[Tensors, Tensors], Tensors] | None = None
    name: str = "serving_default"
    units: dict[str, str] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    by_place: tuple[str, ...] = ()
    stepwise: Stepwise | None = None
    trials: Callable[[str], list[Trial]] = _nothing
    media: Media = Media()
    assets: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What artefact.json says of how to ask it."""
        steps = {"stepwise": self.stepwise.to_json()} if self.stepwise else {}
        return {"media": self.media.to_json(), "by_place": list(self.by_place), **steps}
