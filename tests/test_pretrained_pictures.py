"""Networks that see begin with weights from elsewhere."""

import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from tfbig.core.errors import LeftOut, UserError
from tfbig.core.features import Feature
from tfbig.models.convnext import ConvNeXt
from tfbig.models.resnet import ResNet
from tfbig.models.resnet_fpn import ResNetFPN
from tfbig.models.vit import ViT

SIZE = (64, 96, 3)
SMALL_VIT = {"patch": 32, "width": 16, "depth": 2, "heads": 2, "mlp_ratio": 4.0}
SMALL_VIT |= {"summary": "token", "activation": "gelu_exact"}
PLAIN = {"blocks": (2, 1), "width": 8}

# Run apart, for TensorFlow and PyTorch in one process may disturb each other
ELSEWHERE = """
import sys
import numpy as np
import torch
import transformers as hf

kind, folder = sys.argv[1:]
torch.manual_seed(0)
shapes = {
    "basic": dict(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 1]),
    "bottleneck": dict(embedding_size=64, hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3]),
}
if kind == "convnext":
    config = hf.ConvNextConfig(
        hidden_sizes=[8, 16], depths=[2, 1], num_stages=2, layer_scale_init_value=0.5,
        layer_norm_eps=1e-6,  # of its last norm, as timm's and the paper's
    )
    other = hf.ConvNextModel(config)
elif kind == "vit":
    other = hf.ViTModel(hf.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=(64, 96), patch_size=32, layer_norm_eps=1e-6,
    ), add_pooling_layer=False)
elif kind == "timm_vit":
    import timm.models.vision_transformer as timm
    from safetensors.torch import save_file
    other = timm.VisionTransformer(
        img_size=(64, 96), patch_size=32, embed_dim=16, depth=2, num_heads=2, num_classes=7,
    )
else:
    other = hf.ResNetModel(hf.ResNetConfig(layer_type=kind, **shapes[kind]))
picture = torch.tensor(np.random.RandomState(0).randn(2, 3, 64, 96).astype("float32"))
with torch.no_grad():
    for parameter in other.parameters() if "vit" in kind else ():  # a token may begin at zero
        parameter += 0.1 * torch.randn(parameter.shape)
    for _ in range(3):  # so that running means and variances are some
        other.train()(2 * picture + 0.5)
    if kind == "timm_vit":
        save_file(other.eval().state_dict(), f"{folder}/model.safetensors")
        pooled = other.forward_features(picture)[:, 0]
    else:
        other.eval().save_pretrained(folder)
        output = other(picture)
        pooled = output.last_hidden_state[:, 0] if kind == "vit" else output.pooler_output
    pooled = pooled.reshape(2, -1)
np.savez(f"{folder}/states.npz", picture=picture.permute(0, 2, 3, 1).numpy(), pooled=pooled.numpy())
"""


def built(model):
    return model.build({"image": Feature(shape=SIZE, dtype="float32")})


@pytest.mark.parametrize(
    "kind, model",
    [
        ("basic", ResNet(**PLAIN)),
        ("bottleneck", ResNet(depth=50)),
        ("convnext", ConvNeXt(blocks=(2, 1), channels=(8, 16))),
        ("vit", ViT(**SMALL_VIT)),
        ("timm_vit", ViT(**SMALL_VIT)),
    ],
)
def test_weights_from_elsewhere_give_the_same_features(kind, model, tmp_path):
    """PEER_PYTHON names an interpreter that has transformers and torch, if this one has not."""
    python = os.environ.get("PEER_PYTHON", sys.executable)
    command = [python, "-c", ELSEWHERE, kind, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if "ModuleNotFoundError" in ended.stderr:
        pytest.skip("transformers and torch are not installed")
    assert ended.returncode == 0, ended.stderr
    saved = np.load(tmp_path / "states.npz")
    network = built(model)
    model.load(network, str(tmp_path))
    features = network(saved["picture"], training=False)
    assert saved["pooled"].std() > 0.1
    np.testing.assert_allclose(features, saved["pooled"], atol=1e-4, rtol=1e-4)


def torchvisions(model):
    """A network's weights, random, as torchvision calls them."""
    random, tensors = np.random.default_rng(0), {}
    kinds = {"gamma": "weight", "beta": "bias"}
    kinds |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    for variable in built(model).variables:
        layer, kind = variable.path.split("/")[-2:]
        value = random.random(variable.shape, np.float32)
        words = layer.removesuffix("_norm").split("_")
        if words[0] == "stem":
            name = "bn1" if kind in kinds else "conv1"
        else:
            inside = (
                "downsample." if words[4] == "shortcut" else ("bn" if kind in kinds else "conv")
            )
            inside += str(int(kind in kinds)) if words[4] == "shortcut" else words[5]
            name = f"layer{words[1]}.{int(words[3]) - 1}.{inside}"
        kernel = kind == "kernel"
        tensors[f"{name}.{'weight' if kernel else kinds[kind]}"] = (
            np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if kernel else value
        )
    return tensors


def test_pyramids_begin_with_them_and_say_what_is_fresh(tmp_path):
    tensors = torchvisions(ResNet(**PLAIN))
    save_file(
        {**tensors, "fc.weight": np.ones((5, 16), np.float32)}, tmp_path / "model.safetensors"
    )
    model = ResNetFPN(**PLAIN, features=8)
    network = built(model)
    with pytest.warns(LeftOut, match="fresh.*lateral_1, pyramid_1"):
        model.load(network, str(tmp_path))
    kernel = network.get_layer("stage_2_block_1_shortcut").kernel
    expected = tensors["layer2.0.downsample.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)
    variance = network.get_layer("stage_1_block_2_conv_1_norm").moving_variance
    np.testing.assert_array_equal(variance, tensors["layer1.1.bn1.running_var"])


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"blocks": (2, 2), "width": 8}, "expected a tensor layer2.1.conv1.weight"),
        ({"blocks": (1, 1), "width": 8}, "one that has more, such as layer1.1"),
        (
            {"blocks": (2, 1), "width": 16},
            r"conv1.weight is \[7, 7, 3, 8\], expected \[7, 7, 3, 16\]",
        ),
    ],
)
def test_other_networks_are_refused_in_words(knobs, message, tmp_path):
    save_file(torchvisions(ResNet(**PLAIN)), tmp_path / "model.safetensors")
    network = built(ResNet(**knobs))
    before = [np.array(variable) for variable in network.variables]
    with pytest.raises(UserError, match=message):
        ResNet(**knobs).load(network, str(tmp_path))
    for old, variable in zip(before, network.variables, strict=True):
        np.testing.assert_array_equal(old, variable)
