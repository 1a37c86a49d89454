"""GPT: attention against float64 references, published sizes, causality, choices from the command
line.
"""

import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import tfbig
from tfbig.core.errors import UserError
from tfbig.core.features import Feature
from tfbig.models import _pretrained_gpt
from tfbig.models.gpt import GPT, SIZES
from tfbig.models.lstm_lm import LSTMLM
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


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("block", [None, 1, 3, 7])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (6, 1)])
def test_attention_against_float64(heads, groups, block, jit):
    q, k, v = tensors(heads, groups)
    at = tf.range(7)[None]
    given = [tf.constant(x, tf.float32) for x in (q, k, v)]

    @tf.function(jit_compile=jit or None, autograph=False)
    def both(block, *given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            got = attention.attend_causally(*given, at, block)
            total = tf.reduce_sum(got * tf.constant(q[..., ::-1], tf.float32))
        return got, tape.gradient(total, given)

    got, gradients = both(block, *given)
    np.testing.assert_allclose(got, reference(q, k, v), atol=1e-6)
    for a, b in zip(gradients, both(None, *given)[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_attention_survives_large_scores():
    q, k, v = (
        tf.constant(x * scale, tf.float32)
        for x, scale in zip(tensors(2, 2), (1e4, 1e4, 1), strict=True)
    )
    assert np.isfinite(attention.attend_causally(q, k, v, tf.range(7)[None])).all()


def test_rotation():
    q, k, _ = tensors(2, 2)
    at = np.arange(7)[None]
    angle = at[0][:, None] * 100.0 ** (-np.arange(2) / 2)
    turned = attention.rotate(tf.constant(q, tf.float32), tf.constant(at), base=100.0)
    z = (q[..., :2] + 1j * q[..., 2:]) * np.exp(1j * angle)
    np.testing.assert_allclose(turned, np.concatenate([z.real, z.imag], -1), atol=1e-5)

    def scores(shift):
        return tf.matmul(
            *(
                attention.rotate(tf.constant(x, tf.float32), tf.constant(at + shift))
                for x in (q, k)
            ),
            transpose_b=True,
        )

    np.testing.assert_allclose(scores(0), scores(50), atol=1e-3)  # distances alone count


@pytest.mark.parametrize(
    "size",
    [
        name if name in ("gpt2_124m", "smollm_135m") else pytest.param(name, marks=pytest.mark.slow)
        for name in PUBLISHED
    ],
)
def test_published_parameter_counts(size):
    """Counted at depth 1 and 2, as all blocks are alike."""
    context, vocabulary, published = PUBLISHED[size]
    spec = {"tokens": Feature(shape=(context,), dtype="int32", values=vocabulary)}
    one, two = (GPT.of(size, depth=depth).build(spec).count_params() for depth in (1, 2))
    assert one + (SIZES[size]["depth"] - 1) * (two - one) == published


@pytest.mark.parametrize(
    "knobs", [{}, {"positions": "rope", "kv_heads": 2, "qk_norm": True, "block": 5}]
)
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

    def make(block):
        return GPT(width=16, depth=2, heads=4, block=block, deviation=0.3).build(SPEC)

    whole, parts = make(None), make(5)
    parts.set_weights(whole.get_weights())
    tokens = np.random.RandomState(0).randint(0, 9, (2, 12)).astype("int32")
    np.testing.assert_allclose(whole(tokens), parts(tokens), atol=1e-5)


def test_sizes_from_the_command_line():
    found = tfbig.recipe("sotu_gpt", "model.size=smollm_135m", "model.depth=2").model
    assert (found.width, found.depth, found.kv_heads, found.activation) == (576, 2, 3, "swiglu")
    assert GPT.of("char", bias=False) == tfbig.recipe("shakespeare_char_gpt").model


def test_wrong_heads():
    def problems(**knobs):
        return dict(GPT(**knobs).problems())

    assert (
        "divisor of model.width=128" in problems(heads=3)["heads"]
        and "divisor of model.heads=4" in problems(kv_heads=3)["kv_heads"]
    )
    assert "an even width per head" in problems(width=12, heads=4, positions="rope")["heads"]


# Weights from elsewhere


def family(name, folder):
    """A random model of another library, its logits, and the settings that make the same here."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    if name == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=61, n_positions=24, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3
        )
        other, ours = transformers.GPT2LMHeadModel(config), GPT.of("char", width=32, depth=2)
    else:
        tied = name == "llama_tied"
        config = transformers.LlamaConfig(
            vocab_size=61,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=24,
            initializer_range=0.3,
            tie_word_embeddings=tied,
            rope_theta=500.0,
            rms_norm_eps=1e-6,
        )
        other = transformers.LlamaForCausalLM(config)
        ours = GPT.of(
            "tinyllama_1100m",
            width=32,
            depth=2,
            heads=4,
            kv_heads=2,
            hidden=48,
            tied=tied,
            rope_base=500.0,
            epsilon=1e-6,
        )
    other.eval().save_pretrained(folder)
    tokens = np.random.RandomState(0).randint(0, 61, (3, 20))
    with torch.no_grad():
        return ours, tokens.astype("int32"), other(torch.tensor(tokens)).logits.numpy()


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama_tied"])
def test_weights_from_elsewhere_give_the_same_logits(name, tmp_path):
    ours, tokens, logits = family(name, tmp_path)
    model = ours.build({"tokens": Feature(shape=(20,), dtype="int32", values=61)})
    ours.load(model, str(tmp_path))
    assert logits.std() > 0.3
    np.testing.assert_allclose(model(tokens), logits, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_presets_of_kerashub_give_the_same_logits(name, tmp_path):
    hub = pytest.importorskip("keras_hub").models
    if name == "gpt2":
        other = hub.GPT2Backbone(
            vocabulary_size=61,
            num_layers=2,
            num_heads=4,
            hidden_dim=32,
            intermediate_dim=128,
            max_sequence_length=24,
        )
        ours, scale = GPT.of("char", width=32, depth=2), 1.0
    else:
        other = hub.LlamaBackbone(
            vocabulary_size=61,
            num_layers=2,
            num_query_heads=4,
            num_key_value_heads=2,
            hidden_dim=32,
            intermediate_dim=48,
        )
        ours, scale = (
            GPT.of(
                "tinyllama_1100m", width=32, depth=2, heads=4, kv_heads=2, hidden=48, epsilon=1e-6
            ),
            0.3,
        )
    random = np.random.RandomState(0)
    for weight in other.weights:
        weight.assign(
            random.normal(size=weight.shape, scale=scale if "scale" not in weight.path else 1.0)
            * 0.3
        )
    other.save_to_preset(str(tmp_path / "preset"))
    tokens = random.randint(0, 61, (3, 20)).astype("int32")
    hidden = other({"token_ids": tokens, "padding_mask": np.ones_like(tokens)}, training=False)
    logits = np.asarray(other.token_embedding(hidden, reverse=True))
    model = ours.build({"tokens": Feature(shape=(20,), dtype="int32", values=61)})
    ours.load(model, f"hub:{tmp_path / 'preset'}")
    assert logits.std() > 0.05
    np.testing.assert_allclose(model(tokens), logits, atol=1e-4)
    with pytest.raises(UserError, match="init: KerasHub has no preset"):
        ours.load(model, f"hub:{tmp_path / 'nothing'}")


@pytest.fixture
def checkpoint(tmp_path):
    """A GPT-2 checkpoint of our own making.

    Width 8, two blocks, two heads, context 10, nine tokens.
    """
    random = np.random.RandomState(0)
    shapes = {"wte.weight": (9, 8), "wpe.weight": (10, 8), "ln_f.weight": (8,), "ln_f.bias": (8,)}
    for i in range(2):
        parts = {
            "attn.c_attn": (8, 24),
            "attn.c_proj": (8, 8),
            "mlp.c_fc": (8, 32),
            "mlp.c_proj": (32, 8),
        }
        shapes |= {f"h.{i}.{part}.weight": shape for part, shape in parts.items()} | {
            f"h.{i}.{part}.bias": shape[1:] for part, shape in parts.items()
        }
        shapes |= {
            f"h.{i}.{part}.{which}": (8,)
            for part in ("ln_1", "ln_2")
            for which in ("weight", "bias")
        }
    values = {
        f"transformer.{name}": random.normal(size=shape).astype("float32")
        for name, shape in shapes.items()
    }
    save_file(values, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "gpt2",
                "n_embd": 8,
                "n_layer": 2,
                "n_head": 2,
                "layer_norm_epsilon": 1e-5,
            }
        )
    )
    return tmp_path, values


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_checkpoint_is_read(checkpoint, dtype):
    path, values = checkpoint
    save_file(
        {name: value.astype(tf.as_dtype(dtype).as_numpy_dtype) for name, value in values.items()},
        path / "model.safetensors",
    )
    values = {
        name: value.astype(tf.as_dtype(dtype).as_numpy_dtype).astype("float32")
        for name, value in values.items()
    }
    ours = GPT.of("char", width=8, depth=2, heads=2)
    model = ours.build({"tokens": Feature(shape=(6,), dtype="int32", values=9)})
    ours.load(model, str(path))
    for layer, name in (
        ("block_2_attention_qkv", "transformer.h.1.attn.c_attn.weight"),
        ("embedding", "transformer.wte.weight"),
    ):
        np.testing.assert_array_equal(model.get_layer(layer).weights[0], values[name])
    np.testing.assert_array_equal(
        model.get_layer("position").weights[0], values["transformer.wpe.weight"][:6]
    )


@pytest.mark.parametrize(
    ("knobs", "context", "message"),
    [
        (
            {"heads": 4, "bias": False},
            6,
            "made with other settings than the model. Give model.bias=true model.heads=2",
        ),
        (
            {},
            12,
            (
                r"position/embeddings is \[10, 8\], expected \[12, 8\]; data.context is longer than"
                r" what it knows"
            ),
        ),
        ({"depth": 3}, 6, "Give model.depth=2"),
    ],
)
def test_a_checkpoint_that_does_not_fit(checkpoint, knobs, context, message):
    ours = GPT.of("char", **{"width": 8, "depth": 2, "heads": 2, **knobs})
    with pytest.raises(UserError, match=message):
        ours.load(
            ours.build({"tokens": Feature(shape=(context,), dtype="int32", values=9)}),
            str(checkpoint[0]),
        )


def test_damaged_checkpoints(checkpoint):
    path, values = checkpoint
    ours = GPT.of("char", width=8, depth=2, heads=2)
    model = ours.build({"tokens": Feature(shape=(6,), dtype="int32", values=9)})
    before = [np.array(value) for value in model.get_weights()]
    values.pop("transformer.h.1.ln_2.bias")
    save_file(values, path / "model.safetensors")
    with pytest.raises(
        UserError, match="expected a tensor h.1.ln_2.bias .for block_2_norm_2/beta.. It is missing"
    ):
        ours.load(model, str(path))
    (path / "model.safetensors").write_bytes(b"not at all")
    with pytest.raises(UserError, match="model.safetensors cannot be read"):
        ours.load(model, str(path))
    (path / "config.json").write_text('{"model_type": "gpt2", "n_head": 2}')
    with pytest.raises(UserError, match="config.json: expected a value of 'n_embd'. It is missing"):
        ours.load(model, str(path))
    (path / "config.json").write_text("5")
    with pytest.raises(UserError, match="init: expected a folder with config.json"):
        ours.load(model, str(path))
    (path / "config.json").unlink()
    os.mkfifo(path / "config.json")  # which would be waited for
    with pytest.raises(UserError, match="config.json is no plain file"):
        _pretrained_gpt.settings(path)
    (path / "config.json").unlink()
    (path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="families gpt2, llama. Received: .*'bert'"):
        ours.load(model, str(path))
    with pytest.raises(UserError, match="init: expected a folder with config.json"):
        ours.load(model, str(path / "nothing"))
    with pytest.raises(UserError, match="init: LSTMLM reads no weights from elsewhere"):
        LSTMLM().load(model, "x")
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_starts_from_them(checkpoint, tmp_path, monkeypatch):
    from tfbig.data import _text

    path, values = checkpoint
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _text._opened.cache_clear()
    (tmp_path / "a.txt").write_text("abcdefgh\n" * 200)
    settings = [
        "data=text_files",
        f"data.path={tmp_path / 'a.txt'}",
        "data.context=6",
        "model.size=char",
        "model.width=8",
        "model.depth=2",
        "model.heads=2",
        f"init={path}",
        "train.length=1",
        "train.batch_size=2",
        "optim.warmup=0",
        "optim.learning_rate=1e-9",
        "train.ema=0.5",
        "train.final_split=none",
    ]
    run = tfbig.train("sotu_gpt", *settings, run=tmp_path / "run")
    model = tfbig.load(run).model
    np.testing.assert_allclose(
        model.get_layer("embedding").weights[0], values["transformer.wte.weight"], atol=1e-6
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"activation_function": "relu"},
        {"rope_scaling": {"type": "linear", "factor": 4.0}},  # as older checkpoints write it
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
    ],
)
def test_checkpoints_of_kinds_that_gpt_is_not(changes, tmp_path):
    """They would be read without an error, and say something else."""
    gpt2 = {
        "model_type": "gpt2",
        "n_embd": 8,
        "n_layer": 2,
        "n_head": 2,
        "layer_norm_epsilon": 1e-5,
    }
    llama = {
        "model_type": "llama",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "rms_norm_eps": 1e-5,
        "intermediate_size": 16,
        "hidden_act": "silu",
    }
    made = llama if "rope_scaling" in changes else gpt2
    (tmp_path / "config.json").write_text(json.dumps(made))
    assert _pretrained_gpt.settings(tmp_path)[0] == made["model_type"]
    (tmp_path / "config.json").write_text(json.dumps({**made, **changes}))
    with pytest.raises(UserError, match="of a kind that GPT has no settings for"):
        _pretrained_gpt.settings(tmp_path)


# Which files, which tensors


def small():
    """The GPT that `checkpoint` fits, built, and a function that loads a folder into it."""
    ours = GPT.of("char", width=8, depth=2, heads=2)
    model = ours.build({"tokens": Feature(shape=(6,), dtype="int32", values=9)})
    return model, lambda path: ours.load(model, str(path))


def shard(path, values):
    """Two shards and their index in place of one file."""
    (path / "model.safetensors").unlink()
    names = sorted(values)
    parts = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for file, part in parts.items():
        save_file({name: values[name] for name in part}, path / file)
    places = {name: file for file, part in parts.items() for name in part}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return places


def test_the_files_that_a_checkpoint_names_are_read(checkpoint):
    path, values = checkpoint
    model, load = small()
    stale = {name: value + 1 for name, value in values.items()}
    save_file(stale, path / "pytorch_model.safetensors")  # the last by name
    load(path)
    embedding = model.get_layer("embedding").weights[0]
    np.testing.assert_array_equal(embedding, values["transformer.wte.weight"])
    embedding.assign(np.zeros((9, 8)))
    places = shard(path, values)
    load(path)
    np.testing.assert_array_equal(embedding, values["transformer.wte.weight"])
    save_file(values, path / "model.safetensors")
    with pytest.raises(
        UserError,
        match=(
            "expected one checkpoint. Received: two, model.safetensors and the files of"
            " model.safetensors.index.json"
        ),
    ):
        load(path)
    (path / "model.safetensors").unlink()
    (path / places["transformer.wte.weight"]).unlink()
    with pytest.raises(
        UserError, match=r"expected the 2 files that it names. Missing: 1 \(model-0000"
    ):
        load(path)
    (path / "model.safetensors.index.json").unlink()
    with pytest.raises(
        UserError,
        match=(
            r"that says which files belong together. Received: neither, and 2 .safetensors files"
            r" \(model-0000"
        ),
    ):
        load(path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[]", "expected a JSON object with weight_map.*TypeError"),
        (
            '{"weight_map": {"wte.weight": "../model.safetensors"}}',
            "'../model.safetensors' is no file of this folder",
        ),
        ('{"weight_map": {"wte.weight": 5}}', "expected a JSON object with weight_map"),
        ('{"weight_map": {}}', "expected the 0 files that it names"),
        (
            '{"weight_map": {"other.weight": "model.safetensors"}}',
            "model.safetensors cannot be read: .*other.weight",
        ),
        ("[" * 100_000, "expected a JSON object with weight_map"),
        ('{"weight_map": {"wte.weight": "%s"}}' % ("x" * 5000), "File name too long"),
    ],
)
def test_indices_that_are_none(checkpoint, index, message):
    (checkpoint[0] / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match=message):
        small()[1](checkpoint[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"wte.weight": np.ones((9, 8), "float32")},
            "expected one tensor wte.weight. Received: transformer.wte.weight and wte.weight",
        ),
        (
            {"transformer.wte.weight": np.ones((9, 8), "int8")},
            "expected wte.weight in one of float16, .*Received: int8",
        ),
        (
            {"transformer.wte.weight": np.full((9, 8), np.nan, "float32")},
            "embedding/embeddings holds NaN",
        ),
        ({"transformer.wte.weight": np.full((9, 8), 1e300)}, "or numbers too large for float32"),
        (
            {"transformer.wte.weight": np.ones((), "float32")},
            r"expected wte.weight with 1 or 2 axes. Received: \[\]",
        ),
        (
            {"transformer.h.0.attn.k_norm.weight": np.ones(8, "float32")},
            "tensors that those do not have, h.0.attn.k_norm.weight",
        ),
        (
            {"transformer.h.2.ln_1.weight": np.ones(8, "float32")},
            "tensors that those do not have, h.2.ln_1.weight",
        ),
    ],
)
def test_tensors_that_are_not_taken(checkpoint, changes, message):
    """In silence they would give another model."""
    path, values = checkpoint
    model, load = small()
    before = [np.array(value) for value in model.get_weights()]
    save_file({**values, **changes}, path / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load(path)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_masks_among_the_tensors_are_no_weights(checkpoint):
    path, values = checkpoint
    masks = {
        "transformer.h.0.attn.bias": np.ones((1, 1, 10, 10), "uint8"),
        "transformer.h.0.attn.masked_bias": np.array(-1e4),
    }
    save_file({**values, **masks}, path / "model.safetensors")
    small()[1](path)


HEADER = {"transformer.wte.weight": {"dtype": "F32", "shape": [9, 8], "data_offsets": [0, 288]}}


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (
            None,
            {
                "transformer.wte.weight": {
                    "dtype": "F32",
                    "shape": [9, 8],
                    "data_offsets": [0, 2**40],
                }
            },
        ),
        (
            None,
            {"transformer.wte.weight": {"dtype": "F32", "shape": [9, 8], "data_offsets": [288, 0]}},
        ),
        (
            None,
            {
                **HEADER,
                "transformer.wpe.weight": {
                    "dtype": "F32",
                    "shape": [9, 8],
                    "data_offsets": [4, 292],
                },
            },
        ),
        (
            None,
            {
                "transformer.wte.weight": {
                    "dtype": "F32",
                    "shape": [2**62, 8],
                    "data_offsets": [0, 288],
                }
            },
        ),
        (
            None,
            {"transformer.wte.weight": {"dtype": "O8", "shape": [9, 8], "data_offsets": [0, 288]}},
        ),
        (
            None,
            {
                "transformer.wte.weight": {
                    "dtype": "F32",
                    "shape": [-9, 8],
                    "data_offsets": [0, 288],
                }
            },
        ),
        (
            None,
            {
                "transformer.wte.weight": {
                    "dtype": "F8_E4M3",
                    "shape": [36, 8],
                    "data_offsets": [0, 288],
                }
            },
        ),
        (None, [HEADER]),
        (2**63, HEADER),
        (10**9, HEADER),
        (0, HEADER),
    ],
)
def test_crafted_headers(checkpoint, length, header):
    path, written = checkpoint[0], json.dumps(header).encode()
    size = len(written) if length is None else length
    (path / "model.safetensors").write_bytes(size.to_bytes(8, "little") + written + bytes(288))
    with pytest.raises(UserError, match="model.safetensors cannot be read"):
        small()[1](path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_embd", "8"),
        ("n_head", 0),
        ("n_layer", -2),
        ("n_layer", True),
        ("layer_norm_epsilon", None),
        ("layer_norm_epsilon", 10**400),
        ("n_inner", [3]),
    ],
)
def test_settings_that_are_none(checkpoint, name, value):
    path = checkpoint[0] / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(
        UserError, match=f"config.json: expected the settings of a gpt2. Received: {name}="
    ):
        _pretrained_gpt.settings(checkpoint[0])
