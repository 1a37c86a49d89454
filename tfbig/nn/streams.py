"""A network of frames that is given a recording in portions, and says of each what the whole says.

Each convolution keeps the last frames of its input, and answers as soon as all that it looks at is
there: so many frames later, which is the network's look-ahead. Before the beginning and behind the
end are zeros in front of each convolution, as in the whole network, so its outputs are the same.

Shapes: b rows, t frames of a portion, d channels.
"""

from __future__ import annotations

from collections.abc import Callable

from tfbig.core.lazy import keras, np
from tfbig.nn.frames import Frames


class State:
    """What is kept from one portion to the next, as inputs and outputs of a model.

    Attributes:
        layer: from a name to the built network's layer.
        before, after: symbolic tensors, of each thing kept.
    """

    def __init__(self, layer: Callable):
        self.layer = layer
        self.before, self.after = [], []

    def joined(self, x_btd, kept: int):
        """The last `kept` frames of earlier portions, and these behind them."""
        if not kept:
            return x_btd
        name = f"state_{len(self.before)}"
        before = keras.Input((kept, x_btd.shape[-1]), dtype=x_btd.dtype, name=name)
        joined = keras.ops.concatenate([before, x_btd], axis=1)
        self.before.append(before)
        self.after.append(joined[:, -kept:])
        return joined


class Stream(Frames):
    """A portion of a recording in a network; its methods give the next layer's, as `Frames` does.

    Attributes:
        seen: frames in earlier portions, int32 [b].
        count: real frames up to here, int32 [b]: fewer than were given once it has ended.
        behind: the first frame of `x` is number `seen - behind`.
    """

    def __init__(self, x_btd, seen_b, count_b, behind: int, state: State):
        self.x, self.seen, self.count = x_btd, seen_b, count_b
        self.behind, self.state = behind, state

    def with_(self, x_btd) -> Stream:
        return Stream(x_btd, self.seen, self.count, self.behind, self.state)

    @property
    def number(self):
        """Of each frame in the recording, int32 [b, t]; negative before its beginning."""
        # NumPy's, which is a constant of the graph; a tensor made here would leave as code to load
        place = np.arange(self.x.shape[1], dtype=np.int32)[None] - self.behind
        return self.seen[:, None] + place

    @property
    def is_real(self):
        number = self.number
        return (number >= 0) & (number < self.count[:, None])

    def _windowed(self, layer, kernel, name, stride, dilation, bias) -> Stream:
        if kernel == 1 and stride == 1:
            return self.with_(self.state.layer(name)(self.x))
        around = dilation * (kernel - 1)
        before, ahead = around // 2, around - around // 2
        missing = max(self.behind + ahead - stride + 1, self.behind - before)
        behind = -(-missing // stride)
        joined = self.state.joined(self.masked, stride * behind + before - self.behind)
        places = self.x.shape[1] // stride
        x = self.state.layer(name)(joined[:, : (places - 1) * stride + around + 1])
        count = (self.count + stride - 1) // stride
        return Stream(x, self.seen // stride, count, behind, self.state)

    def dense(self, width, name, bias=True) -> Stream:
        return self.with_(self.state.layer(name)(self.x))

    def activated(self, kind, name) -> Stream:
        return self.with_(self.state.layer(name)(self.x))

    def normalized(self, kind, name) -> Stream:
        return self.with_(self.state.layer(name)(self.x))

    def dropped(self, rate, name) -> Stream:
        return self

    def plus(self, other: Stream, name: str) -> Stream:
        behind = max(self.behind, other.behind)
        waiting = [one._waiting(behind).x for one in (self, other)]
        added = self.state.layer(name)(waiting)
        return Stream(added, self.seen, self.count, behind, self.state)

    def _waiting(self, behind: int) -> Stream:
        """The same, later."""
        joined = self.state.joined(self.x, behind - self.behind)
        x = joined[:, : self.x.shape[1]]
        return Stream(x, self.seen, self.count, behind, self.state)


def streamed(network: Callable, body, frames: int, behind: int = 0):
    """A model of one portion of a recording.

    Args:
        network: from `Frames` to `Frames`: what built the whole network.
        body: the whole network, whose layers are used.
        frames: of a portion; all strides together divide it.
        behind: frames that come later than the portion they belong to.

    Returns:
        A Keras model of {"frames" [b, frames, m], "seen" int32 [b], "count" int32 [b], and state_0
        ...}, with outputs {"sequence" [b, places, d], "number" int32 [b, places], "is_real" bool
        [b, places], and state_0 ...}, and the frames that it looks ahead.
    """
    given = body.input["frames"]
    x = keras.Input((frames, given.shape[-1]), dtype=given.dtype, name="frames")
    seen, count = (keras.Input((), dtype="int32", name=name) for name in ("seen", "count"))
    state = State(body.get_layer)
    last = network(Stream(x, seen, count, behind, state))
    kept = {tensor.name: tensor for tensor in state.before}
    outputs = {"sequence": last.masked, "number": last.number, "is_real": last.is_real}
    outputs |= dict(zip(kept, state.after, strict=True))
    inputs = {"frames": x, "seen": seen, "count": count, **kept}
    stride = frames // last.x.shape[1]
    return keras.Model(inputs, outputs, name="stream"), last.behind * stride
