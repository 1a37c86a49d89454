"""The pictures in a request, before any is decoded: what they claim to hold, and in which bytes.

Graphs may read the same bytes otherwise than this server, so they are given what the server read:
tf.Examples as it writes them again, PNGs without their compressed text.
"""

from __future__ import annotations

from tfbig.core.lazy import np, tf
from tfbig.core.pictures import claimed_pixels, without_text
from tfbig.deploy.operation_lists import EXAMPLE_PARSERS, SEQUENCE_PARSERS
from tfbig.deploy.server.status import invalid

# What pictures begin with in base64, and a browser's data URL
ENCODED = (b"/9j/", b"iVBORw0K", b"R0lGOD", b"Qk", b"data:")
FAR_TOO_MANY = 1 << 40  # pixels, of which all rows together are still a number of 64 bits


def count(inputs: dict[str, np.ndarray], rows: int, operations: set[str]) -> np.ndarray:
    """The pixels that the pictures in each row claim to hold, int64 [rows].

    Texts in `inputs` are replaced by what the graph is to read.

    Args:
        inputs: name -> checked values; objects are bytes.
        rows: how many there are at most.
        operations: of the signature, by which texts are pictures or messages that hold some.

    Raises:
        Failure: a text cannot be read, or must not be decoded.
    """
    parsed_as = None
    if operations & SEQUENCE_PARSERS:
        parsed_as = tf.train.SequenceExample
    elif operations & EXAMPLE_PARSERS:
        parsed_as = tf.train.Example
    pixels = np.zeros(rows, np.int64)
    for name, value in inputs.items():
        if value.dtype == object:
            inputs[name] = texts = value.copy()
            for place in np.ndindex(texts.shape):
                content, claimed = _read(texts[place], parsed_as)
                texts[place] = content
                pixels[place[0] if place else 0] += min(claimed, FAR_TOO_MANY)
    return pixels


def _read(content: bytes, parsed_as: type | None) -> tuple[bytes, int]:
    """What the graph is to read, and the pixels in it."""
    try:
        if content.startswith(ENCODED):
            raise ValueError('expected its bytes. Received text, maybe base64: send {"b64": "..."}')
        if parsed_as:
            return _read_message(content, parsed_as)
        return without_text(content), claimed_pixels(content)
    except ValueError as error:
        raise invalid(f"picture: {error}") from None


def _read_message(content: bytes, kind: type) -> tuple[bytes, int]:
    """The same of the pictures in a tf.Example or tf.SequenceExample."""
    from google.protobuf.message import DecodeError

    try:
        message = kind.FromString(content)
    except DecodeError:
        raise invalid(f"expected a serialised tf.{kind.__name__}. It cannot be parsed.") from None
    pixels = 0
    for feature in _features(message):
        items = feature.bytes_list.value
        for i, item in enumerate(items):
            pixels += claimed_pixels(item)
            if (cut := without_text(item)) is not item:
                items[i] = cut
    message.DiscardUnknownFields()  # which another parser might take for known ones
    return message.SerializeToString(), pixels


def _features(message) -> list:
    """All features of a tf.Example or tf.SequenceExample."""
    if isinstance(message, tf.train.Example):
        return list(message.features.feature.values())
    listed = message.feature_lists.feature_list.values()
    return [
        *message.context.feature.values(),
        *(feature for steps in listed for feature in steps.feature),
    ]
