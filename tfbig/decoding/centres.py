"""Boxes as peaks of maps, without anchors or suppression: how maps are drawn and read.

A class's map is 1 at the centres of its boxes and falls off around them (CenterNet: Zhou et al.
2019, "Objects as Points"). Four more maps hold the distances from a pixel to the edges of the box
around it, learnt in the middle of each box and not at its centre alone (TTFNet: Liu et al. 2020,
"Training-Time-Friendly Network for Real-Time Object Detection"), which needs far fewer steps.

Shapes: b batch, n boxes of a picture, h and w a map's height and width, c classes. Boxes are top,
left, bottom, right in pixels of the picture that the model sees.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.lazy import tf

SPREAD = 0.54 / 6  # standard deviation of a peak over its box's side (Liu et al. 2020)
FAINT = 0.1  # of a peak; pixels below it say nothing of the box's edges
FAR_SMALLER = 1e9  # more than any two boxes of a picture differ by
PEAK = 3  # side of the surroundings in which a peak is the highest


@dataclass(frozen=True)
class Maps:
    """What a model should give for the true boxes.

    Attributes:
        heat: float32 [b, h, w, c], 1 at centres.
        distances: to the top, left, bottom and right edge in pixels, float32 [b, h, w, 4].
        weight: how much the distances of a pixel count, float32 [b, h, w]; the pixels of a box
            add up to 1, of a box whose pixels all belong to smaller ones to 0.
        covered: which boxes a peak stands for, bool [b, n].
    """

    heat: tf.Tensor
    distances: tf.Tensor
    weight: tf.Tensor
    covered: tf.Tensor


def draw(
    boxes_bn4: tf.Tensor,
    classes_bn: tf.Tensor,
    real_bn: tf.Tensor,
    shape: tuple[int, int, int],
    stride: int,
) -> Maps:
    """The maps of true boxes.

    Where peaks of two boxes overlap, edges belong to the smaller one, but those at a centre to the
    box around it.

    Args:
        boxes_bn4: boxes inside the picture.
        classes_bn: their classes, int32.
        real_bn: bool; which are boxes and not padding.
        shape: h, w, c.
        stride: pixels of the picture in a pixel of the maps.
    """
    height, width, classes = shape
    rows = tf.shape(boxes_bn4)[0]
    number = boxes_bn4.shape[1] or tf.shape(boxes_bn4)[1]
    sides = tf.maximum(boxes_bn4[..., 2:] - boxes_bn4[..., :2], 1e-3) / stride
    centre = _cell((boxes_bn4[..., :2] + boxes_bn4[..., 2:]) / 2, height, width, stride)
    down = _bell(height, centre[..., 0], sides[..., 0])
    across = _bell(width, centre[..., 1], sides[..., 1])
    peak = down[..., :, None] * across[..., None, :] * tf.cast(real_bn, tf.float32)[..., None, None]

    index = tf.range(rows)[:, None] * classes + classes_bn
    heat = tf.tensor_scatter_nd_max(
        tf.zeros((rows * classes, height, width)),
        tf.reshape(index, (-1, 1)),
        tf.reshape(peak, (rows * number, height, width)),
    )
    heat = tf.transpose(tf.reshape(heat, (rows, classes, height, width)), (0, 2, 3, 1))

    # Smaller boxes come first, but the pixel of a box's own centre is its own
    area = sides[..., 0] * sides[..., 1]
    area = tf.where(peak >= 1.0, (area / FAR_SMALLER)[..., None, None], area[..., None, None])
    area = tf.where(peak >= FAINT, area, float("inf"))  # [b, n, h, w]
    owner = tf.argmin(area, 1, tf.int32)  # [b, h, w]
    owned = tf.reduce_min(area, 1) < float("inf")
    own = tf.one_hot(tf.where(owned, owner, -1), number, axis=1)  # [b, n, h, w]
    share = own * peak
    total = tf.reduce_sum(share, (2, 3), keepdims=True)
    weight = tf.reduce_sum(share / tf.maximum(total, 1e-9), 1)

    box = tf.gather(boxes_bn4, tf.reshape(owner, (rows, -1)), batch_dims=1)
    box = tf.reshape(box, (rows, height, width, 4))
    middles = _middles(height, width, stride)
    distances = tf.concat([middles - box[..., :2], box[..., 2:] - middles], -1)
    cells = centre[..., 0] * width + centre[..., 1]
    at_centre = tf.gather(tf.reshape(owner, (rows, -1)), cells, batch_dims=1)
    covered = real_bn & (at_centre == tf.range(number))
    return Maps(heat, tf.maximum(distances, 0.0), weight, covered)


def covers(
    boxes_bn4: tf.Tensor, which_bn: tf.Tensor, shape: tuple[int, int, int], stride: int
) -> tf.Tensor:
    """Which pixels of a map lie inside some boxes, bool [b, h, w].

    Args:
        boxes_bn4: in pixels of the picture.
        which_bn: bool; the boxes that are meant.
        shape: h, w, c of the maps.
        stride: pixels of the picture in a pixel of the maps.
    """
    middles = _middles(shape[0], shape[1], stride)
    down, across = middles[:, 0, 0], middles[0, :, 1]
    rows = (down >= boxes_bn4[..., :1]) & (down <= boxes_bn4[..., 2:3]) & which_bn[..., None]
    columns = (across >= boxes_bn4[..., 1:2]) & (across <= boxes_bn4[..., 3:])
    return tf.reduce_any(rows[..., :, None] & columns[..., None, :], 1)


def find(heat_bhwc: tf.Tensor, distances_bhw4: tf.Tensor, stride: int, most: int) -> dict:
    """The surest boxes that maps show, the surest first.

    Args:
        heat_bhwc: scores from 0 to 1.
        distances_bhw4: to the edges, in pixels.
        stride: pixels of the picture in a pixel of the maps.
        most: how many to return, if the maps have so many places.

    Returns:
        boxes, float32 [b, most, 4], not cut at the picture's edges; scores, float32 [b, most];
        classes, int32 [b, most].
    """
    height, width, classes = heat_bhwc.shape[1:]
    highest = tf.nn.max_pool2d(heat_bhwc, PEAK, 1, "SAME")
    peaks = tf.where(heat_bhwc >= highest, heat_bhwc, 0.0)
    places = height * width * classes
    scores, place = tf.math.top_k(tf.reshape(peaks, (-1, places)), min(most, places))
    cell = place // classes
    distances = tf.reshape(distances_bhw4, (-1, height * width, 4))
    distances = tf.gather(distances, cell, batch_dims=1)
    middle = tf.gather(tf.reshape(_middles(height, width, stride), (-1, 2)), cell)
    boxes = tf.concat([middle - distances[..., :2], middle + distances[..., 2:]], -1)
    return {"boxes": boxes, "scores": scores, "classes": place % classes}


def giou(distances: tf.Tensor, true: tf.Tensor) -> tf.Tensor:
    """Generalised intersection over union of two boxes around the same pixel, -1 ... 1.

    Rezatofighi et al. 2019.

    Args:
        distances, true: to the top, left, bottom and right edge, float32 [..., 4].
    """
    both = _product(tf.minimum(distances, true))
    hull = _product(tf.maximum(distances, true))
    union = _product(distances) + _product(true) - both
    tiny = 1e-6
    return both / tf.maximum(union, tiny) - (hull - union) / tf.maximum(hull, tiny)


def _product(distances: tf.Tensor) -> tf.Tensor:
    """The area of a box given by distances from a pixel in it to its edges."""
    return (distances[..., 0] + distances[..., 2]) * (distances[..., 1] + distances[..., 3])


def _cell(point: tf.Tensor, height: int, width: int, stride: int) -> tf.Tensor:
    """The row and the column of the pixel of a map that holds a point [..., 2], int32."""
    cell = tf.cast(tf.floor(point / stride), tf.int32)
    return tf.clip_by_value(cell, 0, tf.constant([height - 1, width - 1]))


def _bell(size: int, centre_bn: tf.Tensor, side_bn: tf.Tensor) -> tf.Tensor:
    """A Gaussian [b, n, size], 1 at the centre, as wide as a side in pixels of a map asks."""
    distance = tf.cast(tf.range(size) - centre_bn[..., None], tf.float32)
    deviation = tf.maximum(SPREAD * side_bn, 1e-2)[..., None]
    return tf.exp(-tf.square(distance / deviation) / 2)


def _middles(height: int, width: int, stride: int) -> tf.Tensor:
    """The middle of each pixel of a map, in pixels of the picture, float32 [height, width, 2]."""
    down = (tf.range(height, dtype=tf.float32) + 0.5) * stride
    across = (tf.range(width, dtype=tf.float32) + 0.5) * stride
    return tf.stack(tf.meshgrid(down, across, indexing="ij"), -1)
