"""Causal streaming network of clips: mobile blocks whose convolutions over time look back only."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.contracts import Model
from tfbig.core.lazy import keras
from tfbig.nn.clips import NORMALIZATIONS, Layers


@dataclass(frozen=True, kw_only=True)
class MoViNet(Model):
    """Causal streaming network of clips, after MoViNet (Kondratyuk et al. 2021).

    Inverted bottlenecks with a convolution over each frame and one over time, which looks back
    only. What a frame gives depends on it and those before it alone, so a stream is gone through
    frame by frame, with the last few frames of each block as state, and the same comes out. Without
    squeeze-and-excitation; sizes are one's own, not the published ones.
    """

    blocks: tuple[int, ...] = knob((2, 2, 2), "blocks in each stage", low=1)
    width: int = knob(
        16, "channels of the first stage; doubled with each, which halves pixels", low=1
    )
    expansion: int = knob(2, "inner channels of a block over its outer ones", low=1)
    kernel: int = knob(
        3, "frames that a convolution over time sees: its own, and those before", low=1
    )
    stem_stride: int = knob(2, "pixels of a frame in one of the first convolution's output", low=1)
    normalization: str = knob("batch", "behind each convolution", choices=NORMALIZATIONS)
    dropout: float = knob(
        0.0, "share of the last features dropped while training", low=0, high=0.95
    )

    takes = frozenset({"video"})
    gives = frozenset({"sequence"})

    @classmethod
    def smallest(cls):
        return cls(blocks=(1, 1), width=4, kernel=2, normalization="none", dropout=0.02)

    def build(self, spec):
        """Input [batch, frames, height, width, channels] to features [batch, frames, n].

        Those of a frame are the mean over it and all before it.
        """
        ((name, feature),) = spec.items()
        inputs = keras.Input(feature.shape, dtype=feature.dtype, name=name)
        network = _Network(self, Layers(self.normalization))
        outputs, _ = network.features(inputs, None)
        return keras.Model(inputs, outputs, name="movinet")

    def streamed(self, model):
        frame = keras.Input(model.input.shape[2:], dtype=model.input.dtype, name="frame")
        network = _Network(self, Layers(self.normalization, model.get_layer))
        before = [
            keras.Input(shape, name=f"state_{i}")
            for i, shape in enumerate(network.states(model.input.shape[2:]))
        ]
        outputs, after = network.features(frame[:, None], before)
        return keras.Model([frame, *before], [outputs[:, 0], *after], name="stream")


class _Network:
    """The computation of a clip, or of some frames of a stream with what came before them.

    The state of a block is the input of its convolution over time, of the last frames; behind those
    of all blocks stand the sum of the features and the number of frames so far.
    """

    def __init__(self, config: MoViNet, layers: Layers):
        self.config, self.layers = config, layers

    def states(self, shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
        """Shapes of the states, without a batch axis, of frames of a shape."""
        config = self.config
        height, width = (-(-side // config.stem_stride) for side in shape[:2])
        given = config.width
        shapes = []
        for _, out, stride in self._blocks():
            height, width = -(-height // stride), -(-width // stride)
            shapes.append((config.kernel - 1, height, width, given * config.expansion))
            given = out
        return [*shapes, (given * config.expansion,), (1,)]

    def _blocks(self):
        """Each block's name, output channels and stride."""
        for stage, count in enumerate(self.config.blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                name = f"stage_{stage + 1}_block_{block + 1}"
                yield name, self.config.width * 2**stage, stride

    def features(self, x_bthwc, before: list | None) -> tuple:
        """Features [b, t, n] of frames, and the states behind them.

        Args:
            x_bthwc: frames.
            before: the states; None: those of a beginning, which are zeros.
        """
        layers, after = self.layers, []
        config = self.config
        x = layers.over_frames(x_bthwc, config.width, 3, config.stem_stride, "stem")
        x = layers.activated(layers.normed(x, "stem_norm"), "stem_activation")
        for number, (name, out, stride) in enumerate(self._blocks()):
            state = None if before is None else before[number]
            x, state = self._block(x, out, stride, name, state)
            after.append(state)
        # Activated, for the mean of what is normalised alone would say nothing
        width = x.shape[-1] * config.expansion
        x = layers.normed(layers.over_frames(x, width, 1, 1, "last"), "last_norm")
        pooled = keras.ops.mean(layers.activated(x, "last_activation"), (2, 3))
        features, sums = self._mean_so_far(pooled, before and before[-2:])
        if config.dropout:
            features = layers("Dropout", "dropout", config.dropout)(features)
        return features, [*after, *sums]

    def _block(self, x, out: int, stride: int, name: str, state):
        """An inverted bottleneck: wide, over each frame, over time, narrow again."""
        layers, config = self.layers, self.config
        inner = x.shape[-1] * config.expansion
        y = layers.over_frames(x, inner, 1, 1, f"{name}_expand")
        y = layers.activated(layers.normed(y, f"{name}_expand_norm"), f"{name}_expand_activation")
        depthwise = layers(
            "DepthwiseConv2D",
            f"{name}_frames",
            3,
            stride,
            "same",
            use_bias=config.normalization == "none",
            depthwise_initializer="he_normal",
        )
        y = layers.frames(y, depthwise)
        y = layers.activated(layers.normed(y, f"{name}_frames_norm"), f"{name}_frames_activation")
        y, state = self._with_earlier(y, state)
        y = layers.over_time(y, inner, config.kernel, 1, f"{name}_time", "valid")
        y = layers.activated(layers.normed(y, f"{name}_time_norm"), f"{name}_time_activation")
        y = layers.over_frames(y, out, 1, 1, f"{name}_project")
        y = layers.normed(y, f"{name}_project_norm")
        if y.shape == x.shape:
            y = layers("Add", f"{name}_add")([x, y])
        return y, state

    def _with_earlier(self, y_bthwc, state):
        """Frames with the last ones before them, and those of the next time."""
        ops = keras.ops
        earlier = self.config.kernel - 1
        if state is None:
            padding = ((0, 0), (earlier, 0), (0, 0), (0, 0), (0, 0))
            joined = ops.pad(y_bthwc, padding)
        else:
            joined = ops.concatenate([state, y_bthwc], axis=1)
        return joined, joined[:, joined.shape[1] - earlier :]

    def _mean_so_far(self, x_btc, sums: list | None) -> tuple:
        """The mean of each frame's features and of all before it; the sum and how many they are."""
        ops = keras.ops
        total = ops.cumsum(x_btc, axis=1)
        number = ops.ones_like(x_btc[:, :, :1])
        number = ops.cumsum(number, axis=1)
        if sums is not None:
            total += sums[0][:, None]
            number += sums[1][:, None]
        return total / number, [total[:, -1], number[:, -1]]
