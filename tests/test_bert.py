"""BERT: published sizes, padding, weights from elsewhere, pre-training and fine-tuning."""

import dataclasses
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from tfbig.core.errors import LeftOut, UserError
from tfbig.core.features import Feature
from tfbig.models import _pretrained_bert
from tfbig.models.bert import BERT, SIZES


def spec(values=61, most=24, pair=True):
    tokens = Feature(shape=(None,), dtype="int32", values=values, most=most)
    inputs = {"tokens": tokens, "count": Feature(shape=(), dtype="int32")}
    return {**inputs, "segments": dataclasses.replace(tokens, values=2)} if pair else inputs


# Of the published checkpoints, without the heads of pre-training
PARAMETERS = {
    "tiny": 4_385_920,
    "mini": 11_170_560,
    "small": 28_763_648,
    "medium": 41_373_184,
    "base": 109_482_240,
    "large": 335_141_888,
}


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes(size):
    if size in ("base", "large"):  # counted on their first block, for speed and memory
        small = BERT.of(size, depth=1).build(spec(30_522, 512)).count_params()
        block = BERT.of(size, depth=2).build(spec(30_522, 512)).count_params() - small
        assert small + (SIZES[size]["depth"] - 1) * block == PARAMETERS[size]
    else:
        assert BERT.of(size).build(spec(30_522, 512)).count_params() == PARAMETERS[size]


def test_sizes_settle_and_problems_are_told():
    mini = BERT(size="mini", depth=2).settled(frozenset({"size", "depth"}))
    assert (mini.width, mini.depth, mini.heads, mini.normalization) == (256, 2, 4, "after")
    assert "divisor of model.width=128" in dict(BERT(heads=3).problems())["heads"]
    odd = BERT(width=6, heads=2, positions="rope")
    assert "an even width per head" in dict(odd.problems())["heads"]


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"normalization": "before", "positions": "rope", "activation": "geglu"},
        {"positions": "none", "summary": "average", "activation": "relu"},
    ],
)
def test_padding_and_batch_mates_change_nothing(knobs):
    keras.utils.set_random_seed(1)
    model = BERT(width=32, depth=2, heads=4, deviation=0.3, **knobs).build(spec())
    random = np.random.RandomState(0)
    tokens = random.randint(1, 61, (3, 9)).astype("int32")
    count = np.array([9, 4, 1], "int32")
    segments = np.zeros_like(tokens)
    together = model({"tokens": tokens, "count": count, "segments": segments})
    for i, n in enumerate(count):
        alone = model(
            {"tokens": tokens[i : i + 1, :n], "count": count[i : i + 1],
             "segments": segments[i : i + 1, :n]}
        )  # fmt: skip
        for name in ("sequence", "features"):
            among = np.array(together[name][i])
            among = among[:n] if name == "sequence" else among
            np.testing.assert_allclose(among, alone[name][0], atol=1e-5)


# Run apart, for TensorFlow and PyTorch in one process may disturb each other
ELSEWHERE = """
import sys
import numpy as np
import torch
import transformers as hf

name, folder = sys.argv[1:]
torch.manual_seed(0)
sizes = {"vocab_size": 61, "max_position_embeddings": 26, "initializer_range": 0.3}
if name == "distilbert":
    config = hf.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, **sizes)
    other = hf.DistilBertModel(config)
else:
    kinds = {"bert": hf.BertModel, "bert_mlm": hf.BertForMaskedLM, "roberta": hf.RobertaModel}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = kinds[name].config_class(intermediate_size=48, **shape, **sizes)
    other = kinds[name](config)
other.eval().save_pretrained(folder)
tokens = np.random.RandomState(0).randint(2, 61, (3, 20))
count = np.array([20, 11, 5])
mask = np.arange(20)[None] < count[:, None]
if name == "roberta":  # it counts places by what is no padding
    tokens = np.where(mask, tokens, config.pad_token_id)
with torch.no_grad():
    body = getattr(other, "bert", other)
    states = body(input_ids=torch.tensor(tokens), attention_mask=torch.tensor(mask))
pooled = getattr(states, "pooler_output", None)
pooled = np.zeros(0) if pooled is None else pooled.numpy()
arrays = {"tokens": tokens, "count": count, "states": states.last_hidden_state.numpy()}
np.savez(f"{folder}/states.npz", pooled=pooled, **arrays)
"""


@pytest.mark.parametrize("name", ["bert", "bert_mlm", "roberta", "distilbert"])
@pytest.mark.filterwarnings("ignore::tfbig.core.errors.LeftOut")
def test_weights_from_elsewhere_give_the_same_states(name, tmp_path):
    """PEER_PYTHON names an interpreter that has transformers and torch, if this one has not."""
    python = os.environ.get("PEER_PYTHON", sys.executable)
    command = [python, "-c", ELSEWHERE, name, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if "ModuleNotFoundError" in ended.stderr:
        pytest.skip("transformers and torch are not installed")
    assert ended.returncode == 0, ended.stderr
    saved = np.load(tmp_path / "states.npz")
    model = BERT.of("tiny", width=32, depth=2, heads=4, hidden=48)
    built = model.build(spec(61, 24, pair=False))
    model.load(built, str(tmp_path))
    given = {each: saved[each].astype("int32") for each in ("tokens", "count")}
    outputs = built(given)
    assert saved["states"].std() > 0.3
    for i, n in enumerate(saved["count"]):
        np.testing.assert_allclose(outputs["sequence"][i, :n], saved["states"][i, :n], atol=1e-4)
    if saved["pooled"].size:
        np.testing.assert_allclose(outputs["features"], saved["pooled"], atol=1e-4)


@pytest.mark.parametrize("name", ["BertBackbone", "RobertaBackbone", "DistilBertBackbone"])
@pytest.mark.filterwarnings("ignore::tfbig.core.errors.LeftOut")
def test_presets_of_kerashub_give_the_same_states(name, tmp_path):
    hub = pytest.importorskip("keras_hub").models
    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 32, "intermediate_dim": 48}
    other = getattr(hub, name)(vocabulary_size=61, max_sequence_length=24, **sizes)
    random = np.random.RandomState(0)
    for weight in other.weights:
        weight.assign(random.normal(size=weight.shape, scale=0.3) + weight.path.endswith("gamma"))
    other.save_to_preset(str(tmp_path))
    tokens = random.randint(1, 61, (3, 20)).astype("int32")
    given = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
    if name == "BertBackbone":
        given["segment_ids"] = np.zeros_like(tokens)
    states = other(given, training=False)
    states = states["sequence_output"] if isinstance(states, dict) else states

    settings = _pretrained_bert.preset(str(tmp_path))[1]
    model = BERT(**settings)
    built = model.build(spec(61, 24, pair=False))
    model.load(built, f"hub:{tmp_path}")
    outputs = built({"tokens": tokens, "count": np.full(3, 20, "int32")})
    np.testing.assert_allclose(outputs["sequence"], states, atol=1e-4)


def checkpoint(folder, changed=(), **config):
    """A small checkpoint in Hugging Face's form, of zeros and ones."""
    settings = {
        "model_type": "bert",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "hidden_act": "gelu",
    }
    built = BERT.of("tiny", width=16, depth=1).build(spec(61, 24))
    tensors = {}
    for variable in built.variables:
        layer, _, kind = "/".join(variable.path.split("/")[-2:]).partition("/")
        if layer in _pretrained_bert.EMBEDDINGS:
            tensors[f"bert.{_pretrained_bert.EMBEDDINGS[layer]}.weight"] = np.ones(
                variable.shape, np.float32
            )
            continue
        names = _pretrained_bert.TABLE["bert"].get(layer.replace("block_1_", "block_{i}_"), ())
        for name in names:
            ending = {"kernel": "weight", "gamma": "gamma", "beta": "beta"}.get(kind, kind)
            shape = list(variable.shape)
            shape[-1] //= len(names)
            value = np.ones(shape[::-1], np.float32)
            tensors[f"bert.{name.format(i=0)}.{ending}"] = value
    tensors |= dict(changed)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**settings, **config}), "utf-8")
    save_file({name: v for name, v in tensors.items() if v is not None},
              folder / "model.safetensors")  # fmt: skip
    return built


def test_old_names_and_prefixes_are_known(tmp_path):
    built = checkpoint(tmp_path)
    BERT.of("tiny", width=16, depth=1).load(built, str(tmp_path))
    assert all(np.all(np.array(variable) == 1) for variable in built.trainable_variables)


def test_what_a_checkpoint_lacks_is_said(tmp_path):
    built = checkpoint(tmp_path, {"bert.pooler.dense.weight": None, "bert.pooler.dense.bias": None})
    with pytest.warns(LeftOut, match="has no pooler; what it lacks starts fresh"):
        BERT.of("tiny", width=16, depth=1).load(built, str(tmp_path))


@pytest.mark.parametrize(
    ("changed", "config", "message"),
    [
        ({}, {"model_type": "gpt2"}, "families bert, roberta, distilbert"),
        ({}, {"hidden_size": 32}, "Give model.width=32"),
        ({}, {"position_embedding_type": "relative_key"}, "absolute positions"),
        ({"bert.embeddings.LayerNorm.gamma": None}, {}, "embeddings.LayerNorm.weight.*missing"),
        (
            {"bert.embeddings.word_embeddings.weight": np.ones((50, 16), np.float32)},
            {},
            "is the vocabulary another one",
        ),
        (
            {"bert.pooler.dense.bias": np.full(16, np.nan, np.float32)},
            {},
            "pooler holds NaN",
        ),
        ({"bert.pooler.dense.bias": np.ones(16, np.int32)}, {}, "Received: int32"),
    ],
)
def test_wrong_checkpoints_are_explained(changed, config, message, tmp_path):
    built = checkpoint(tmp_path, changed, **config)
    before = [np.array(variable) for variable in built.trainable_variables]
    with pytest.raises(UserError, match=message):
        BERT.of("tiny", width=16, depth=1).load(built, str(tmp_path))
    for old, variable in zip(before, built.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, variable)
