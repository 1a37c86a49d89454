"""A recogniser as it is served.

Signatures (b rows, n samples):

    serving_default   wav_bytes string [b] -> text string [b], score float32 [b] (0 ... 1), times
                      string [b]: a line for each word, "start end word", in seconds
    stream            portions of samples -> logits, of models that hear in portions; see
                      `_streamed_speech`
    tensors           frames and their count -> logits and what they say

Where the tokenizer cannot be a part of the graph, serving_default gives no text but tokens int32
[b, places] and tokens_count int32 [b].

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
from tfbig.prep import graph_bpe, graph_text
from tfbig.prep.tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Service(Component):
    """What a served recogniser takes."""

    most_s: float = knob(600.0, "seconds of the longest recording", above=0)
    portion_s: float = knob(
        0.32, "stream: seconds of a portion, of models that hear in portions", above=0, high=60
    )


def serving(task: Task, model, service: Service) -> Serving:
    audio = Audio(rate_hz=task.data.rate_hz, most=int(service.most_s * task.data.rate_hz))
    pieces = graph_text.pieces(task.tokenizer)
    spelled = {"text": "text", "times": "words"} if pieces else {}
    step = task.samples_of_place / task.data.rate_hz
    streamed = task.streamed(model, service.portion_s)
    stream = {}
    if streamed:
        stream = {"programs": {"stream": streamed.program()}, "trials": streamed.trials}

    def decode(served):
        samples, count = audio.decode(served["wav_bytes"])
        return {"samples": samples, "samples_count": count}

    def answer(outputs):
        if pieces:
            return {"score": outputs["score"], **_spoken(task.tokenizer, outputs, step)}
        return {name: outputs[name] for name in ("tokens", "tokens_count", "score")}

    def records(answers, batch):
        if pieces:
            answers = _tokens(task.tokenizer, answers["text"])
        return task.records(answers, batch)

    return Serving(
        signature={"wav_bytes": audio.served("wav_bytes")},
        decode=decode,
        encode=task.encode,
        answer=answer,
        grade=lambda answers, batch: {},
        records=records,
        units={"frames": task.frames_unit},
        media=Media(
            takes={"wav_bytes": "samples"},
            gives={**spelled, "score": "number"},
            forms={"wav_bytes": audio.form()},
        ),
        assets={"tokenizer": task.tokenizer.to_json()},
        remarks=(*_remarks(task, audio, pieces), *([streamed.remark()] if streamed else [])),
        **stream,
    )


def _remarks(task: Task, audio: Audio, pieces):
    seconds = audio.most / audio.rate_hz
    yield (
        f"Recordings are taken as WAV of 16 bits of any rate, of at most {seconds:g} s; the longest"
        f" that it was trained on may have had {task.data.most_s:g} s. Channels are averaged, other"
        f" rates than {audio.rate_hz:,} Hz are resampled. `samples` are from -1 to 1, at"
        f" {audio.rate_hz:,} Hz."
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
    seconds = [tf.cast(edge[:, :width], tf.float32) * step_s for edge in (starts, ends)]
    start, end = (tf.strings.as_string(edge, precision=2) for edge in seconds)
    line = tf.strings.join([start, " ", end, " ", words, "\n"])
    lines = tf.strings.reduce_join(tf.where(words == "", "", line), axis=1)
    return {"text": text, "times": tf.strings.strip(lines)}


def _tokens(tokenizer: Tokenizer, text) -> dict:
    """Texts [b] as tokens again, with zeros behind their count."""
    encoder = graph_text.encoder(tokenizer) or graph_bpe.encoder(tokenizer)
    ragged = encoder(text)
    return {
        "tokens": ragged.to_tensor(),
        "tokens_count": tf.cast(ragged.row_lengths(), tf.int32),
    }
