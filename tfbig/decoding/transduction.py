"""Writing a target for a source, such as a translation, by an encoder and single steps.

Shapes: b rows, s places of the longest source, m most target places.
"""

from __future__ import annotations

from tfbig.core.lazy import tf
from tfbig.decoding import beam


class Transducer:
    """A writer of targets, with what was computed kept from step to step.

    Args:
        encode, step: the programs of `Model.transducer`.
        length: most choices, the end included.
        end: the choice that ends a target; it stands before the first one, too.
    """

    def __init__(self, encode, step, *, length: int, end: int):
        self.encode, self.step, self.length, self.end = encode, step, length, end
        outputs = list(step.output)
        self.carried = tuple(name for name in encode.output if name in outputs)
        self.fixed = tuple(name for name in encode.output if name not in outputs)

    def go_on(self, token, place, kept: dict):
        """The scores of a next choice [b, v], and what is carried on."""
        outputs = dict(self.step({"token": token, "place": place, **kept}, training=False))
        return outputs.pop("logits"), outputs

    def write(self, source, count, *, beams: int = 1, penalty: float = 1.0):
        """The best target found of each source.

        Args:
            source: tokens int32 [b, s].
            count: how many of them are real, int32 [b], at least one.
            beams: hypotheses of the search; 1: the likeliest choice each time.
            penalty: of length; see `beam.best`.

        Returns:
            (choices int32 [b, m] with zeros behind the end, their log-probability float32 [b],
            how many they are, int32 [b]).
        """
        kept = self.encode(_inputs(source, count), training=False)
        carried = {name: kept[name] for name in self.carried}
        fixed = {name: kept[name] for name in self.fixed}
        history, total = beam.search(
            self.go_on,
            carried,
            fixed,
            length=self.length,
            beams=beams,
            first=self.end,
            end=self.end,
        )
        return beam.best(history, total, end=self.end, penalty=penalty)

    def write_uncached(self, model, source, count):
        """The same as a beam of one by the whole model for each choice, for comparison."""
        given = _inputs(source, count)
        before = tf.fill((len(source), 1), self.end)
        for _ in range(self.length):
            logits = model({**given, "before": before}, training=False)
            chosen = tf.argmax(logits[:, -1], -1, tf.int32)
            before = tf.concat([before, chosen[:, None]], 1)
        return before[:, 1:]


def _inputs(source, count) -> dict:
    """A model's inputs, which must all be tensors."""
    source, count = (tf.convert_to_tensor(value, tf.int32) for value in (source, count))
    return {"source": source, "source_count": count}
