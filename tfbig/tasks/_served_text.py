"""A language model as it is served: what it takes and gives, and how it is asked step by step.

Who writes step by step brings a prompt to the Unicode form of generation.json's "normalize", with
plain newlines, and reads its tokens behind "start" ("opening" if there are none at all), gives them
to prefill, then each chosen token with its position (count, count + 1, ...) to step. Behind
"separator" a text ends. Where position would be the context, it starts again with prefill on the
last half of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Greedy, Media, Serving, Stepwise, Unrolled
from tfbig.prep import graph_text
from tfbig.tasks import _text_trials
from tfbig.tasks._requests import outside
from tfbig.tasks._text_programs import TextPrograms


@dataclass(frozen=True, kw_only=True)
class Service(Component):
    """How a served language model writes when it is not told otherwise."""

    length: int = knob(100, "most tokens that serving_default writes", low=1)
    limit: int = knob(2000, "most tokens that a request may ask for", low=1)
    temperature: float = knob(0.0, "of the choice; 0: always the most probable token", low=0)
    top_k: int | None = knob(None, "choose among so many most probable tokens", low=1)
    top_p: float | None = knob(
        None, "choose among the fewest tokens with this probability together", above=0, high=1
    )
    seed: int = knob(0, "of the choices", low=0, high=2**31 - 1)

    def problems(self):
        if self.length > self.limit:
            yield "length", f"expected at most limit={self.limit}. Received: {self.length}."


def serving(task: Task, model, service: Service) -> Serving:
    """A language model as it is served.

    The split is put through `tensors`: windows of tokens, whole numbers [batch, context + 1], and
    how many of the targets are real [batch].
    """
    text_programs = TextPrograms(task, model, service)
    windows = {"tokens": tf.TensorSpec([None, task.context + 1], tf.int32)}
    return Serving(
        signature={**windows, "length": tf.TensorSpec([None], tf.int32)},
        decode=text_programs.windows,
        encode=_same,
        answer=_same,
        grade=task.metrics,
        name="tensors",
        programs=text_programs.programs(),
        by_place=("generate", *(("serving_default",) if service.temperature else ())),
        stepwise=_stepwise(
            len(text_programs.cache), functools.partial(_text_trials.greedy, task, model)
        ),
        trials=functools.partial(_text_trials.trials, task, model, service),
        media=Media(
            takes={"prompt": "text"} if text_programs.encode else {"tokens": "tokens"},
            gives={"text": "text"} if text_programs.decode else {"ids": "tokens"},
        ),
        assets=_assets(task, service),
        remarks=tuple(_remarks(task, service)),
    )


def _stepwise(num_caches: int, greedy: Callable[[str], Greedy]) -> Stepwise:
    return Stepwise(
        step="step",
        start="prefill",
        carried=tuple(f"cache_{i}" for i in range(num_caches)),
        scores="logits",
        chosen="token",
        position="position",
        count="count",
        unit="token",
        outputs={
            "log_probability": ("logits", "log_probability"),
            "right": ("logits", "likeliest"),
        },
        unroll=_unrolled,
        greedy=greedy,
    )


def _same(values: dict) -> dict:
    return values


def _unrolled(raw: dict) -> Unrolled:
    """Windows token by token: the first one is read, the others are what is chosen."""
    tokens = raw["tokens"]
    start = {"tokens": tokens[:, :1], "count": np.ones(len(tokens), np.int32)}
    return Unrolled(start=start, choices=tokens[:, 1:])


def _assets(task: Task, service: Service) -> dict:
    """What makes text token by token possible: the tokenizer, and how prompts begin and texts end.

    "generation" holds: takes ("text" or "tokens": what serving_default takes), context and values
        (sizes), normalize (Unicode
    form of the texts it was trained on: none, nfc or nfkc), start (tokens before each prompt; left
    out of one that fills the context by itself), opening (what is read where nothing else is),
    separator (the token that ends a text, or null), and the defaults of `Service`.
    """
    separator = task.tokenizer.separator
    takes = "text" if graph_text.encoder(task.tokenizer) else "tokens"
    places = {
        "context": task.context,
        "values": task.tokenizer.size,
        "normalize": task.data.normalize,
        "start": task.start,
        "opening": task.opening,
    }
    return {
        "tokenizer": task.tokenizer.to_json(),
        "generation": {"takes": takes, **places, "separator": separator, **vars(service)},
    }


def _remarks(task: Task, service: Service) -> list[str]:
    """Sentences for the model card."""
    choice = (
        "the most probable token each time"
        if not service.temperature
        else f"at temperature {service.temperature:g}"
    )
    sentences = [
        (
            f"It continues a prompt of at most {task.context} tokens ({task.tokenizer.kind}):"
            f" `serving_default` by at most {service.length} tokens, {choice}; `generate` as it is"
            f" asked to, by at most {service.limit}. What has outgrown the context goes on from its"
            " last half."
        ),
        "It writes what is likely behind texts like those it was trained on, true or not.",
    ]
    if not graph_text.encoder(task.tokenizer):
        sentences.append(
            f"{outside(task.tokenizer)} /v1/completions of tfbig's server takes texts."
        )
    if task.data.normalize != "none":
        form = task.data.normalize.upper()
        sentences.append(
            f"It was trained on text in Unicode's form {form}, and its signatures normalise"
            f" nothing: bring texts to {form} before. /v1/completions of tfbig's server does so."
        )
    return sentences
