"""GPT: attention against float64 references, published sizes, causality, choices from the command line."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.core.contracts import Feature
from tfbig.models.gpt import GPT, SIZES
from tfbig.nn import attention

PUBLISHED = {  # size: (context, vocabulary, parameters with tied weights counted once)
    "gpt2_124m": (1024, 50257, 124_439_808),
    "gpt2_355m": (1024, 50257, 354_823_168),
    "gpt2_774m": (1024, 50257, 774_030_080),
    "gpt2_1558m": (1024, 50257, 1_557_611_200),
    "smollm_135m": (2048, 49152, 134_515_008),
    "tinyllama_1100m": (2048, 32000, 1_100_048_384),
}
SPEC = {"tokens": Feature(shape=(12,), dtype="int32", values=9)}


def tensors(heads, groups, length=7, width=4):
    random = np.random.RandomState(0)
    return [random.normal(size=(2, n, length, width)) for n in (heads, groups, groups)]


def reference(q, k, v):
    """Causal attention as its definition says, one query at a time, in float64."""
    out, share = np.zeros_like(q), q.shape[1] // k.shape[1]
    for b, n, t in np.ndindex(*q.shape[:3]):
        scores = k[b, n // share, : t + 1] @ q[b, n, t] / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, n, t] = (weights / weights.sum()) @ v[b, n // share, : t + 1]
    return out


@pytest.mark.parametrize("block", [None, 1, 3, 7])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (6, 1)])
def test_attention_against_float64(heads, groups, block):
    q, k, v = tensors(heads, groups)
    at = tf.range(7)[None]
    given = [tf.constant(x, tf.float32) for x in (q, k, v)]
    with tf.GradientTape() as tape:
        tape.watch(given)
        got = attention.attend_causally(*given, at, block)
        total = tf.reduce_sum(got * tf.constant(q[..., ::-1], tf.float32))
    np.testing.assert_allclose(got, reference(q, k, v), atol=1e-6)
    with tf.GradientTape() as other:
        other.watch(given)
        whole = tf.reduce_sum(attention.attend_causally(*given, at) * tf.constant(q[..., ::-1], tf.float32))
    for a, b in zip(tape.gradient(total, given), other.gradient(whole, given), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_attention_survives_large_scores():
    q, k, v = (tf.constant(x * scale, tf.float32) for x, scale in zip(tensors(2, 2), (1e4, 1e4, 1), strict=True))
    assert np.isfinite(attention.attend_causally(q, k, v, tf.range(7)[None])).all()


def test_rotation():
    q, k, _ = tensors(2, 2)
    at = np.arange(7)[None]
    angle = at[0][:, None] * 100.0 ** (-np.arange(2) / 2)
    turned = attention.rotate(tf.constant(q, tf.float32), tf.constant(at), base=100.0)
    z = (q[..., :2] + 1j * q[..., 2:]) * np.exp(1j * angle)
    np.testing.assert_allclose(turned, np.concatenate([z.real, z.imag], -1), atol=1e-5)
    scores = lambda shift: tf.matmul(*(attention.rotate(tf.constant(x, tf.float32), tf.constant(at + shift)) for x in (q, k)), transpose_b=True)  # noqa: E731
    np.testing.assert_allclose(scores(0), scores(50), atol=1e-3)  # distances alone count


@pytest.mark.parametrize("size", [name if name in ("gpt2_124m", "smollm_135m") else pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED])
def test_published_parameter_counts(size):
    """Counted at depth 1 and 2, as all blocks are alike."""
    context, vocabulary, published = PUBLISHED[size]
    spec = {"tokens": Feature(shape=(context,), dtype="int32", values=vocabulary)}
    one, two = (GPT.of(size, depth=depth).build(spec).count_params() for depth in (1, 2))
    assert one + (SIZES[size]["depth"] - 1) * (two - one) == published


@pytest.mark.parametrize("knobs", [{}, {"positions": "rope", "kv_heads": 2, "qk_norm": True, "block": 5}])
def test_no_position_sees_what_comes_after(knobs):
    keras.utils.set_random_seed(0)
    model = GPT(width=16, depth=2, heads=4, deviation=0.3, **knobs).build(SPEC)
    tokens = np.random.RandomState(0).randint(0, 9, (1, 12)).astype("int32")
    changed = tokens.copy()
    changed[0, 7] = (changed[0, 7] + 1) % 9
    before, after = model(tokens).numpy(), model(changed).numpy()
    np.testing.assert_array_equal(before[0, :7], after[0, :7])
    assert (np.abs(before[0, 7:] - after[0, 7:]).max(-1) > 1e-4).all()


def test_blocks_change_nothing():
    keras.utils.set_random_seed(0)
    make = lambda block: GPT(width=16, depth=2, heads=4, block=block, deviation=0.3).build(SPEC)  # noqa: E731
    whole, parts = make(None), make(5)
    parts.set_weights(whole.get_weights())
    tokens = np.random.RandomState(0).randint(0, 9, (2, 12)).astype("int32")
    np.testing.assert_allclose(whole(tokens), parts(tokens), atol=1e-5)


def test_sizes_from_the_command_line():
    found = tfbig.recipe("sotu_gpt", "model.size=smollm_135m", "model.depth=2").model
    assert (found.width, found.depth, found.kv_heads, found.activation) == (576, 2, 3, "swiglu")
    assert GPT.of("char", bias=False) == tfbig.recipe("shakespeare_char_gpt").model


def test_wrong_heads():
    problems = lambda **knobs: dict(GPT(**knobs).problems())  # noqa: E731
    assert "divisor of model.width=128" in problems(heads=3)["heads"] and "divisor of model.heads=4" in problems(kv_heads=3)["kv_heads"]
    assert "an even width per head" in problems(width=12, heads=4, positions="rope")["heads"]
