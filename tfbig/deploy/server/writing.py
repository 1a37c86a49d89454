"""Text written token by token by a language model, for completions.py."""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.decoding.sampling import choose
from tfbig.decoding.window import num_dropped
from tfbig.deploy.server.batching import Batcher
from tfbig.deploy.server.servable import Servable
from tfbig.deploy.server.status import invalid
from tfbig.deploy.server.steps import Steps

DEFAULTS = ("length", "limit", "temperature", "top_k", "top_p")
COMPOSED = 4  # characters that normalisation makes one of, at most


@dataclass(frozen=True)
class Choice:
    """How a text is written.

    Attributes:
        length: most tokens.
        temperature: scores are divided by it; 0 takes the most probable token.
        top_k: only so many most probable tokens (Fan et al. 2018); None: all.
        top_p: only the fewest tokens that together have this probability (Holtzman et al. 2020).
        seed: of the choices, which are those of the artefact's `generate` for one prompt; None:
            another one each time.
        stop: texts before which it ends.
        begins: whether no other text stands before it.
    """

    length: int
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    begins: bool = False


def is_language_model(servable: Servable) -> bool:
    """Whether it writes text step by step, by what its assets and its steps say."""
    return bool(servable.stepwise) and {"tokenizer", "generation"} <= set(servable.assets)


def wrong_fact(facts: dict) -> str | None:
    """The first value of generation.json that nobody could write by."""
    if not isinstance(facts, dict):
        return "its content"
    values = facts.get("values")
    fits = {
        "values": _is_whole(values),
        **{name: _is_whole(facts.get(name)) for name in ("context", "length", "limit")},
        "temperature": _is_within(facts.get("temperature"), 0, math.inf),
        "top_k": facts.get("top_k") is None or _is_whole(facts["top_k"]),
        "top_p": facts.get("top_p") is None or _is_within(facts["top_p"], 0, 1),
    }
    for name in ("start", "opening"):
        tokens = facts.get(name)
        fits[name] = isinstance(tokens, list) and all(
            isinstance(token, int) and _is_whole(values) and 0 <= token < values for token in tokens
        )
    return next((name for name, is_fit in fits.items() if not is_fit), None)


def _is_whole(value: object) -> bool:
    """Whether it is a whole number above 0."""
    return type(value) is int and value > 0


def _is_within(value: object, low: float, high: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def defaults(servable: Servable) -> dict | None:
    """How a language model writes when it is not told otherwise; None of other models."""
    if not is_language_model(servable) or wrong_fact(servable.assets["generation"]):
        return None
    return {name: servable.assets["generation"][name] for name in DEFAULTS}


class Writer:
    """A language model's tokenizer, and what its artefact says of how it writes.

    From assets.extra: tokenizer.json and generation.json.

    Args:
        facts: context, start, opening, separator, and the defaults of a Choice.
        tokenizer: encodes texts.
        reader: makes what decodes tokens as they come, from the tokenizer, stop texts and `begins`:
            `add`, `end`, `done`.
        plain: brings a text from outside to the form of the texts that the model was trained on.
    """

    def __init__(
        self, facts: dict[str, Any], tokenizer, reader: Callable, plain: Callable[[str], str]
    ):
        self.facts, self.tokenizer, self.reader, self.plain = facts, tokenizer, reader, plain
        self.most_characters = COMPOSED * facts["context"] * int(tokenizer.byte_lengths().max())

    def tokens(self, prompt: str) -> list[int]:
        """A prompt as the model reads it.

        Behind the start of a document if it knows one and there is room.
        """
        context = self.facts["context"]
        start = self.facts["start"]
        if len(prompt) > self.most_characters:  # before anything is made of it
            raise invalid(
                f"prompt: expected at most the model's context of {context} tokens. "
                f"Received: {len(prompt):,} characters."
            )
        try:
            encoded = self.tokenizer.encode(self.plain(prompt)).tolist()
        except UserError as error:
            raise invalid(f"prompt: {error}") from None
        if len(encoded) > context:
            raise invalid(
                f"prompt: expected at most the model's context of {context} tokens. Received:"
                f" {len(encoded)}."
            )
        whole = start + encoded if len(start) + len(encoded) <= context else encoded
        return whole or list(self.facts["opening"][:context])

    async def write(
        self, batcher: Batcher, tokens: list[int], choice: Choice
    ) -> AsyncIterator[tuple[str, bool]]:
        """Pieces of text, one for each token and perhaps empty, and whether the text ended.

        A piece is sent as soon as it is certain, in whole characters: what may be a part of one, or
        of a stop text, waits for the next token. The batcher is to be held.
        """
        context = self.facts["context"]
        seed = secrets.randbits(32) if choice.seed is None else choice.seed
        options = {name: getattr(choice, name) for name in ("temperature", "top_k", "top_p")}
        reader = self.reader(self.tokenizer, *map(self.plain, choice.stop), begins=choice.begins)
        tokens = list(tokens)
        steps = Steps(batcher)
        for number in range(choice.length):
            drop = num_dropped(len(tokens), context)
            if number == 0 or drop:
                tokens = tokens[drop:]
                given = {steps.plan["count"]: np.array([len(tokens)], np.int32)}
                await steps.start({"tokens": np.array([tokens], np.int32), **given})
            else:
                await steps.step(chosen=np.array(tokens[-1:], np.int32))
            (token,) = choose(steps.state.scores, seed, number, **options).tolist()
            tokens.append(token)
            piece = reader.add([token])
            if not reader.done and number + 1 == choice.length:
                piece += reader.end()
                yield piece, False
                return
            yield piece, reader.done
            if reader.done:
                return
