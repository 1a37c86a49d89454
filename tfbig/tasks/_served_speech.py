"""A recogniser as it is served.

Signatures (b rows, n samples, t places, w words of the longest row):

    serving_default   wav_bytes string [b] -> text string [b], score float32 [b] (0 ... 1), words
                      string [b, w], start_s, end_s float32 [b, w] (zeros behind a row's words),
                      tokens int32 [b, t], tokens_count int32 [b]
    tensors           frames and their count -> logits and what they say

ONNX takes samples float32 [b, n] and samples_count int32 [b], and gives what `Task.predict` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Media, Serving
from tfbig.decoding.ctc import moved_ahead
from tfbig.media.audio import Audio
from tfbig.prep import graph_text
from tfbig.prep.tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Service(Component):
    """What a served recogniser takes."""

    most_s: float = knob(600.0, "seconds of the longest recording", above=0)


def serving(task: Task, model, service: Service) -> Serving:
    audio = Audio(rate_hz=task.data.rate_hz, most=int(service.most_s * task.data.rate_hz))
    pieces = graph_text.pieces(task.tokenizer)
    gives = {"text": "text", "score": "number"} if pieces else {"score": "number"}
    step = task.samples_of_place / task.data.rate_hz

    def decode(served):
        samples, count = audio.decode(served["wav_bytes"])
        return {"samples": samples, "samples_count": count}

    def answer(outputs):
        kept = {name: outputs[name] for name in ("tokens", "tokens_count", "score")}
        return {**kept, **_spoken(task.tokenizer, outputs, step)} if pieces else kept

    return Serving(
        signature={"wav_bytes": audio.served("wav_bytes")},
        decode=decode,
        encode=task.encode,
        answer=answer,
        grade=lambda answers, batch: {},
        records=task.records,
        units={"frames": task.frames_unit},
        media=Media(takes={"wav_bytes": "samples"}, gives=gives, forms={"wav_bytes": audio.form()}),
        assets={"tokenizer": task.tokenizer.to_json()},
        remarks=tuple(_remarks(task, audio, pieces)),
    )


def _remarks(task: Task, audio: Audio, pieces):
    seconds = audio.most / audio.rate_hz
    yield (
        f"Recordings are taken as WAV of 16 bits at {audio.rate_hz:,} Hz, of at most {seconds:g} s;"
        f" the longest that it was trained on may have had {task.data.most_s:g} s. `samples` are"
        " from -1 to 1."
    )
    yield (
        "It writes the likeliest value of each frame; `score` is the geometric mean of their"
        " probabilities, no probability of the text. Times of words are those of their first and"
        " last letters, which may come later than the sounds."
    )
    if pieces is None:
        yield (
            f"Its tokenizer ({task.tokenizer.kind}) cannot be a part of the graph: `tokens` come"
            " out, and assets.extra/tokenizer.json spells them."
        )


def word_edges(tokenizer: Tokenizer, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens begin a word and which end one, bool [n] each."""
    spaced, empty = _tables(tokenizer)
    begins = np.zeros(len(tokens), bool)
    before_is_gap = True
    for place, token in enumerate(tokens):
        begins[place] = not empty[token] and (before_is_gap or spaced[token])
        before_is_gap = empty[token]
    behind_is_gap = np.append(empty[tokens[1:]] | begins[1:], True)[: len(tokens)]
    return begins, ~empty[tokens] & behind_is_gap


def _tables(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Of each token: whether it begins with a space, and whether it is nothing else."""
    texts = [tokenizer.continuation([token]) for token in range(tokenizer.size)]
    spaced = np.array([text[:1].isspace() for text in texts])
    empty = np.array([not text.strip() for text in texts])
    return spaced, empty


def _spoken(tokenizer: Tokenizer, outputs: dict, step_s: float) -> dict:
    """Text, and words with their times, in a graph."""
    tokens, count = outputs["tokens"], outputs["tokens_count"]
    text = graph_text.decoder(tokenizer)(tokens, count, tf.ones_like(count, tf.bool))
    text = tf.strings.strip(tf.strings.regex_replace(text, r"\s+", " "))
    spaced, empty = (tf.gather(tf.constant(table), tokens) for table in _tables(tokenizer))
    place = tf.range(tf.shape(tokens)[1])[None]
    real = place < count[:, None]
    gap = empty | ~real
    before = tf.pad(gap[:, :-1], [[0, 0], [1, 0]], constant_values=True)
    begins = real & ~empty & (before | spaced)
    behind = tf.pad((gap | begins)[:, 1:], [[0, 0], [0, 1]], constant_values=True)
    (starts,) = moved_ahead(begins, [outputs["token_starts"]])
    (ends,) = moved_ahead(real & ~empty & behind, [outputs["token_ends"]])
    words = tf.strings.split(text).to_tensor("")
    width = tf.shape(words)[1]
    return {
        "text": text,
        "words": words,
        "start_s": tf.cast(starts[:, :width], tf.float32) * step_s,
        "end_s": tf.cast(ends[:, :width], tf.float32) * step_s,
    }
