"""What a served language model must answer.

Texts of a split, and what the evaluated model made of them.
"""

from __future__ import annotations

from tfbig.core.component import Component
from tfbig.core.contracts import Task
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Greedy, Trial
from tfbig.decoding.generation import Generator
from tfbig.decoding.text_stream import TextStream
from tfbig.prep import graph_text

SAMPLED = {"temperature": 0.8, "top_k": 20, "top_p": 0.9}
CALLS = 16  # windows of the longest text that is scored
ROWS = 64  # windows per call


def trials(task: Task, model, service: Component, split: str) -> list[Trial]:
    """Greedy and sampled continuations of the same prompts, and scores of the split's texts."""
    documents = _documents(task, split)
    sampled = {
        "length": np.int32(min(service.limit, 60)),
        "seed": np.int32(3),
        **{
            name: np.asarray(value, np.int32 if name == "top_k" else np.float32)
            for name, value in SAMPLED.items()
        },
    }
    choice = {"temperature": service.temperature, "top_k": service.top_k, "top_p": service.top_p}
    prompts = _prompts(documents, task.context)
    continuations = [
        _continued(
            task, model, prompts, "serving_default", service.length, service.seed, choice, {}
        ),
        _continued(task, model, prompts, "generate", int(sampled["length"]), 3, SAMPLED, sampled),
    ]
    return [*continuations, _scored(task, model, documents)]


def _documents(task: Task, split: str) -> list:
    """The tokens of a split's texts, without what stands between them."""
    tokens = np.asarray(task.data.tokens(split))
    ends = (
        np.flatnonzero(tokens == task.tokenizer.separator)
        if task.tokenizer.separator is not None
        else []
    )
    framing = (task.tokenizer.separator, task.tokenizer.begin)
    around = [token for token in framing if token is not None]
    texts = (
        document[~np.isin(document, around)].astype(np.int32) for document in np.split(tokens, ends)
    )
    documents = [text for text in texts if len(text)]
    return documents or [np.array(task.opening, np.int32)]


def _prompts(documents: list, context: int) -> list:
    """Beginnings of different lengths, nothing and a full context among them."""
    lengths = (0, 1, context // 4, context // 2, context)
    places = np.linspace(0, len(documents) - 1, len(lengths)).astype(int)
    return [documents[place][:length] for place, length in zip(places, lengths, strict=True)]


def greedy(task: Task, model, split: str) -> Greedy:
    """The most probable tokens behind beginnings of different lengths.

    As many as the context has room for.
    """
    context = task.context
    documents = _documents(task, split)
    prompts = [
        task.opened(document[:length].tolist())
        for document, length in zip(documents * 3, (context // 2, context // 4, 1), strict=False)
    ]
    longest = max(map(len, prompts))
    choices = Generator(task.model, model, jit=False, temperature=0).generate(
        prompts, max(1, context - longest)
    )
    tokens = np.zeros((len(prompts), longest), np.int32)
    for place, row in zip(tokens, prompts, strict=True):
        place[: len(row)] = row
    count = np.array([len(row) for row in prompts], np.int32)
    return Greedy(start={"tokens": tokens, "count": count}, choices=np.array(choices, np.int32))


def _inputs(task: Task, rows: list, name: str) -> dict:
    """Rows of tokens as the programs take them: texts, or padded tokens and their number."""
    if graph_text.encoder(task.tokenizer):
        pieces = _spelled(task.tokenizer)
        return {name: np.array([b"".join(pieces[token] for token in row) for row in rows], object)}
    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return {"tokens": padded, "count": np.array([len(row) for row in rows], np.int32)}


def _spelled(tokenizer) -> list[bytes]:
    """What each token is read from again.

    The unknown one from a character that the alphabet lacks, as it may hold U+FFFD.
    """
    pieces = graph_text.pieces(tokenizer)
    if getattr(tokenizer, "unknown", None) is not None:
        pieces[tokenizer.unknown] = next(
            c
            for c in map(chr, range(0xFFFD, 0, -1))
            if c not in tokenizer.alphabet and not 0xD800 <= ord(c) < 0xE000
        ).encode()
    return pieces


def _continued(
    task: Task,
    model,
    prompts: list,
    program: str,
    length: int,
    seed: int,
    choice: dict,
    asked: dict,
) -> Trial:
    generator = Generator(task.model, model, jit=False, seed=seed, **choice)
    rows = generator.generate([task.opened(prompt.tolist()) for prompt in prompts], length)
    streams = [TextStream(task.tokenizer, begins=not len(prompt)) for prompt in prompts]
    for stream, tokens in zip(streams, rows, strict=True):
        stream.add(tokens)
        stream.end()
    written = [
        tokens.index(task.tokenizer.separator) if task.tokenizer.separator in tokens else length
        for tokens in rows
    ]
    expected = {"tokens": np.array(written, np.int32)}
    if graph_text.decoder(task.tokenizer):
        expected["text"] = np.array([stream.text.encode() for stream in streams], object)
    if not graph_text.encoder(task.tokenizer):
        expected["ids"] = np.array(
            [
                tokens[:count] + [0] * (length - count)
                for tokens, count in zip(rows, written, strict=True)
            ],
            np.int32,
        )
    return Trial(
        program=program,
        inputs=_inputs(task, prompts, "prompt") | asked,
        expected=expected,
        unit="token",
        counts="tokens",
    )


def _scored(task: Task, model, documents: list) -> Trial:
    """Texts of at most CALLS contexts, the whole split, scored through `Task.predict`."""
    size = CALLS * task.context
    texts = [
        document[first : first + size]
        for document in documents
        for first in range(0, len(document), size)
    ]
    rows, owner = [], []
    for number, text in enumerate(texts):
        whole = np.concatenate([np.array(task.start, np.int32), text])
        for first in range(0, len(whole) - 1, task.context):
            rows.append(whole[first : first + task.context + 1])
            owner.append(number)
    log_probability = np.zeros(len(texts))
    predict = tf.function(
        lambda raw: task.predict(model, task.preprocess(raw, False))["log_probability"],
        autograph=False,
    )
    for first in range(0, len(rows), ROWS):
        batch = rows[first : first + ROWS]
        tokens = np.zeros((ROWS, task.context + 1), np.int32)
        for place, row in zip(tokens, batch, strict=False):
            place[: len(row)] = row
        values_wt = predict(
            {"tokens": tf.constant(tokens), "length": tf.zeros((ROWS,), tf.int32)}
        ).numpy()
        for number, row, values in zip(owner[first : first + ROWS], batch, values_wt, strict=False):
            log_probability[number] += values[: len(row) - 1].sum(dtype=np.float64)
    counts = task.tokenizer.byte_counts
    framed = [np.concatenate([np.array(task.start, np.int32), text]) for text in texts]
    expected = {
        "log_probability": log_probability.astype(np.float32),
        "tokens": np.array([max(0, len(text) - 1) for text in framed], np.int32),
        "bytes": np.array([counts(text[:-1], text[1:]).sum() for text in framed], np.int32),
    }
    return Trial(program="score", inputs=_inputs(task, texts, "text"), expected=expected)
