"""Pictures: JPEG, PNG, GIF (its first frame), BMP, or arrays uint8 [height, width, channels]."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from tfbig.core.errors import UserError
from tfbig.core.lazy import np, tf
from tfbig.core.pictures import MOST_PIXELS, SUFFIXES
from tfbig.media._medium import Medium, shown
from tfbig.prep import pictures

TRACED_FROM = 40  # files that are worth the second that a graph for all of them takes to make
SHOWN_SIDE = 128  # most pixels of a side in a report, unless it says otherwise


@dataclass(frozen=True, kw_only=True)
class Picture(Medium):
    """Pictures of one size.

    What becomes of others, `tfbig.prep.pictures.decode` says.

    Attributes:
        shape: height, width, channels.
        background: what shows through a PNG, 0-255.
        share: of the sides of the largest part in the middle, what is seen.
    """

    medium, noun = "picture", "picture"
    suffixes = (*SUFFIXES, ".npy")
    unreadable = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".tif", ".tiff", ".webp")
    array = "uint8 [n, height, width, channels]"
    taken = (
        f"JPEG, PNG, GIF (its first frame) and BMP, of at most {MOST_PIXELS:,} pixels, turned as"
        " their EXIF says"
    )
    """What is taken, in words."""

    shape: tuple[int, int, int]
    background: int = 255
    share: float = 1.0

    def decode(self, served: tf.Tensor) -> tf.Tensor:
        """Encoded pictures (string [b]) to uint8 [b, height, width, channels]."""
        return pictures.decode_all(served, self.shape, self.background, self.share)

    def encode(self, values) -> np.ndarray:
        """uint8 [n, height, width, channels] to PNG bytes [n].

        Pictures that are encoded already stay as they are.
        """
        if isinstance(values, np.ndarray) and values.dtype == np.dtype(object):
            return values
        return np.array([_png(_image(picture)) for picture in values], object)

    def panel(self, title, values, captions, caption="", side=SHOWN_SIDE):
        """The pictures, of at most `side` pixels a side, so that a report stays small."""
        items = []
        for picture, words in zip(values, captions, strict=True):
            image = _image(picture)
            image.thumbnail((side, side))
            items.append({"png": base64.b64encode(_png(image)).decode(), "caption": words})
        large = {"large": True} if side > SHOWN_SIDE else {}
        return shown({"kind": "pictures", "title": title, "items": items, **large}, caption)

    def form(self):
        return {"shape": list(self.shape)}

    def _of_bytes(self, content, name, count):
        decode = self.decode
        if count >= TRACED_FROM:
            decode = pictures.decoder(self.shape, self.background, share=self.share)
        try:
            return [(name, decode(tf.constant([content])).numpy()[0])]
        except tf.errors.OpError as error:
            expected = "is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy"
            raise UserError(f"{name}: {expected}. Found: {pictures.reason(error)}") from error

    def _of_array(self, array, name):
        """An array as uint8 [n, height, width, channels] of the model's own size."""
        height, width, channels = self.shape
        is_one = array.shape in ((height, width), self.shape)
        shaped = array[None] if is_one else array
        is_flat = channels == 1 and shaped.shape[1:] == (height, width)
        shaped = shaped[..., None] if is_flat else shaped
        if array.dtype != np.uint8 or shaped.shape[1:] != self.shape or not len(shaped):
            expected = f"uint8 [n, {height}, {width}, {channels}] with at least one picture"
            raise UserError(
                f"{name}: expected {expected}. Received: {array.dtype} {list(array.shape)}."
            )
        return shaped

    def _together(self, values):
        return np.stack(values) if values else np.empty((0, *self.shape), np.uint8)


@dataclass(frozen=True, kw_only=True)
class WholePicture(Picture):
    """Pictures of any size, nothing cut off, each with the size that it had.

    See `tfbig.prep.pictures.decode_inside`.
    """

    def decode(self, served: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Encoded pictures (string [b]) to uint8 [b, height, width, channels], sizes [b, 2]."""
        return pictures.decode_all_inside(served, self.shape, self.background)

    def form(self):
        return {**super().form(), "whole": True}

    def _of_bytes(self, content, name, count):
        decode = self.decode
        if count >= TRACED_FROM:
            decode = pictures.decoder(self.shape, self.background, pictures.decode_all_inside)
        try:
            image, size = decode(tf.constant([content]))
        except tf.errors.OpError as error:
            expected = "is no picture that can be read. Expected JPEG, PNG, BMP, GIF or .npy"
            raise UserError(f"{name}: {expected}. Found: {pictures.reason(error)}") from error
        return [(name, (image[0].numpy(), size[0].numpy()))]

    def _of_array(self, array, name):
        size = np.array(self.shape[:2], np.float32)
        return [(picture, size) for picture in super()._of_array(array, name)]

    def _together(self, values):
        return values  # each (picture, size)


def with_boxes(picture: np.ndarray, boxes: np.ndarray, colour: str, width: int = 1) -> np.ndarray:
    """A picture (uint8 [height, width, 3]) with boxes (top, left, bottom, right) drawn upon it."""
    from PIL import ImageDraw

    image = _image(picture)
    pen = ImageDraw.Draw(image)
    for top, left, bottom, right in np.asarray(boxes, float):
        if bottom > top and right > left:
            pen.rectangle((left, top, right, bottom), outline=colour, width=width)
    return np.asarray(image)


def _image(picture: np.ndarray):
    """A picture (uint8 [height, width, channels]) as Pillow's."""
    from PIL import Image

    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def _png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
