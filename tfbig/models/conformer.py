"""Conformer: attention and convolution over frames by turns, for speech."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.contracts import Model
from tfbig.core.lazy import keras
from tfbig.nn.attention import heads_of
from tfbig.nn.frames import NORMALIZATIONS, Frames, inputs_of
from tfbig.nn.relative import relative_attention

# width, depth, heads of the published encoders for CTC
SIZES = {"small": (176, 16, 4), "medium": (256, 18, 4), "large": (512, 18, 8)}


@dataclass(frozen=True, kw_only=True)
class Conformer(Model):
    """Conformer encoder with relative positions (Gulati et al. 2020).

    Its places are four frames apart. On 80 bands with 1,025 outputs small, medium and large have
    13, 31 and 122 million parameters, as the encoders for CTC that NVIDIA published under these
    names (NeMo's cards: 13 M, 30 M, 120 M).
    """

    size: str = knob("small", "published sizes", choices=tuple(SIZES))
    width: int | None = knob(None, "in place of the size's", low=4)
    depth: int | None = knob(None, "blocks, in place of the size's", low=1)
    heads: int | None = knob(None, "of attention, in place of the size's; divide the width", low=1)
    kernel: int = knob(31, "places that a convolution looks at", low=1)
    expansion: int = knob(4, "inner width of a feed-forward network over the width", low=1)
    normalization: str = knob("batch", "inside convolutions", choices=NORMALIZATIONS)
    dropout: float = knob(0.1, "share dropped behind each module", low=0, high=0.95)

    takes, gives = frozenset({"frames"}), frozenset({"sequence"})

    @classmethod
    def smallest(cls):
        return cls(width=8, depth=1, heads=2, kernel=3, expansion=2, dropout=0.02)

    def problems(self):
        width, _, heads = self.sizes
        if width % (2 * heads):
            expected = f"expected a number whose double divides the width {width}"
            yield "heads", f"{expected}. Received: {heads}."

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Width, depth and heads."""
        given = self.width, self.depth, self.heads
        return tuple(own or size for own, size in zip(given, SIZES[self.size], strict=True))

    def build(self, spec):
        """Frames and their count to a sequence [b, t / 4, width] and its count."""
        inputs = inputs_of(spec)
        width, depth, _ = self.sizes
        x = self._fewer(inputs, width)
        x = x.dense(width, "start").dropped(self.dropout, "start_dropout")
        for block in range(1, depth + 1):
            x = self._block(x, f"block_{block}")
        return keras.Model(inputs, x.outputs(), name="conformer")

    @staticmethod
    def _fewer(inputs: dict, width: int) -> Frames:
        """A fourth of the frames and bands, by two convolutions over both."""
        layers = keras.layers
        x = Frames(inputs["frames"], inputs["frames_count"])
        picture = layers.Reshape((-1, inputs["frames"].shape[2], 1), name="picture")
        value = picture(x.masked)
        count = x.count
        for number in (1, 2):
            padded = layers.ZeroPadding2D(1, name=f"fewer_{number}_padding")(value)
            value = layers.Conv2D(width, 3, 2, activation="relu", name=f"fewer_{number}")(padded)
            count = (count + 1) // 2
            real = Frames(value[:, :, 0], count).is_real
            value = value * keras.ops.cast(real, value.dtype)[:, :, None, None]
        flat = layers.Reshape((-1, value.shape[2] * width), name="flat")(value)
        return Frames(flat, count)

    def _block(self, x: Frames, name: str) -> Frames:
        x = self._forward(x, f"{name}_forward_1")
        x = self._added(x, self._attended(x, f"{name}_attention"), f"{name}_attention")
        x = self._added(x, self._convolved(x, f"{name}_convolution"), f"{name}_convolution")
        x = self._forward(x, f"{name}_forward_2")
        return x.normalized("layer", f"{name}_norm")

    def _added(self, x: Frames, y: Frames, name: str) -> Frames:
        return x.plus(y.dropped(self.dropout, f"{name}_dropout"), f"{name}_add")

    def _forward(self, x: Frames, name: str) -> Frames:
        """Half of a feed-forward network's output is added."""
        width = self.sizes[0]
        y = x.normalized("layer", f"{name}_norm")
        y = y.dense(self.expansion * width, f"{name}_up").activated("silu", f"{name}_activation")
        y = y.dropped(self.dropout, f"{name}_inner_dropout").dense(width, f"{name}_down")
        y = y.dropped(self.dropout, f"{name}_dropout")
        return x.with_(x.x + 0.5 * y.x)

    def _attended(self, x: Frames, name: str) -> Frames:
        width, _, heads = self.sizes
        y = x.normalized("layer", f"{name}_norm").dense(3 * width, f"{name}_qkv")
        queries, keys, values = heads_of(y.x, heads, name)
        attention = relative_attention()(name=name)
        mixed = attention([queries, keys, values, x.is_real])
        mixed = keras.ops.transpose(mixed, (0, 2, 1, 3))
        joined = keras.layers.Reshape((-1, width), name=f"{name}_join")(mixed)
        return x.with_(joined).dense(width, f"{name}_out")

    def _convolved(self, x: Frames, name: str) -> Frames:
        width = self.sizes[0]
        y = x.normalized("layer", f"{name}_norm").dense(2 * width, f"{name}_gate")
        open_, gate = keras.ops.split(y.x, 2, axis=-1)
        y = x.with_(open_ * keras.ops.sigmoid(gate))
        y = y.depthwise(self.kernel, f"{name}_depthwise", bias=True)
        y = y.normalized(self.normalization, f"{name}_inner_norm")
        return y.activated("silu", f"{name}_activation").dense(width, f"{name}_out")
