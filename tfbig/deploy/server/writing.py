"""Text written token by token through a language model's `prefill` and `step` programs.

Every call goes through the model's queue, so the steps of several texts that are being written are
answered together.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.decoding.sampling import choose
from tfbig.decoding.window import num_dropped
from tfbig.deploy.server.batching import Batcher
from tfbig.deploy.server.status import invalid

PREFILL, STEP = "prefill", "step"
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


class Writer:
    """A language model's tokenizer and the facts of its artefact (assets.extra/tokenizer.json and
    generation.json).

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
        context, start = self.facts["context"], self.facts["start"]
        if len(prompt) > self.most_characters:  # before anything is made of it
            raise invalid(
                f"prompt: expected at most the model's context of {context} tokens. "
                f"Received: {len(prompt):,} characters."
            )
        try:
            given = self.tokenizer.encode(self.plain(prompt)).tolist()
        except UserError as error:
            raise invalid(f"prompt: {error}") from None
        if len(given) > context:
            raise invalid(
                f"prompt: expected at most the model's context of {context} tokens. Received:"
                f" {len(given)}."
            )
        whole = start + given if len(start) + len(given) <= context else given
        return whole or list(self.facts["opening"][:context])

    async def write(
        self, batcher: Batcher, tokens: list[int], choice: Choice
    ) -> AsyncIterator[tuple[str, bool]]:
        """Pieces of text as they become certain, one for each token and perhaps empty, and whether
        the text came to its end.

        Whole characters only: what may be a part of one, or of a stop text, waits for the next
            token. The batcher is to be held.
        """
        context = self.facts["context"]
        seed = secrets.randbits(32) if choice.seed is None else choice.seed
        options = {name: getattr(choice, name) for name in ("temperature", "top_k", "top_p")}
        reader = self.reader(self.tokenizer, *map(self.plain, choice.stop), begins=choice.begins)
        tokens, cache = list(tokens), None
        for number in range(choice.length):
            drop = num_dropped(len(tokens), context)
            if cache is None or drop:
                tokens = tokens[drop:]
                inputs = {
                    "tokens": np.array([tokens], np.int32),
                    "count": np.array([len(tokens)], np.int32),
                }
                outputs = await batcher.submit(PREFILL, inputs)
            else:
                inputs = {
                    "token": np.array(tokens[-1:], np.int32),
                    "position": np.array([len(tokens) - 1], np.int32),
                }
                outputs = await batcher.submit(STEP, {**inputs, **cache})
            cache = {name: value for name, value in outputs.items() if name != "logits"}
            (token,) = choose(outputs["logits"], seed, number, **options).tolist()
            tokens.append(token)
            piece = reader.add([token])
            if not reader.done and number + 1 == choice.length:
                piece += reader.end()
                yield piece, False
                return
            yield piece, reader.done
            if reader.done:
                return
