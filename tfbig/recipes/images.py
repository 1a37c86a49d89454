"""Recipes for image recognition."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.cifar10 import CIFAR10
from tfbig.data.mnist import MNIST
from tfbig.models.cnn import CNN
from tfbig.models.lstm import LSTM
from tfbig.models.mlp import MLP
from tfbig.models.vit import ViT
from tfbig.tasks.image_classification import ImageClassification


def mnist_mlp() -> Experiment:
    """The textbook example: digits with one hidden layer, 784-128-10, plain SGD."""
    return Experiment(
        name="mnist_mlp",
        task=ImageClassification(),
        model=MLP(units=(128,), activation="relu"),
        data=MNIST(),
        train=Train(length="10ep", batch_size=64),
        optim=Optim(optimizer="sgd", learning_rate=0.01, momentum=0.9),
    )


def mnist_cnn() -> Experiment:
    """Digits with a small convolutional network and random shifts."""
    return Experiment(
        name="mnist_cnn",
        task=ImageClassification(crop_padding=2),
        model=CNN(filters=(16, 32, 64), units=128, dropout=0.3),
        data=MNIST(),
        train=Train(length="12ep", batch_size=128),
        optim=Optim(optimizer="adamw", learning_rate=2e-3, schedule="cosine", warmup="5%", weight_decay=0.01),
    )


def mnist_lstm() -> Experiment:
    """Digits read row by row by an LSTM."""
    return Experiment(
        name="mnist_lstm",
        task=ImageClassification(),
        model=LSTM(units=(128,)),
        data=MNIST(),
        train=Train(length="12ep", batch_size=64),
        optim=Optim(optimizer="adamw", learning_rate=2e-3, schedule="cosine", warmup="5%", weight_decay=0.01, clip_norm=1.0),
    )


def mnist_vit() -> Experiment:
    """Digits read as 16 patches by a small Vision Transformer."""
    return Experiment(
        name="mnist_vit",
        task=ImageClassification(crop_padding=2),
        model=ViT(patch=7, width=64, depth=4, heads=4),
        data=MNIST(),
        train=Train(length="20ep", batch_size=128),
        optim=Optim(optimizer="adamw", learning_rate=2e-3, schedule="cosine", warmup="5%", weight_decay=0.05, clip_norm=1.0),
    )


def cifar10_cnn() -> Experiment:
    """Ten kinds of objects with a residual network, crops and mirror images."""
    return Experiment(
        name="cifar10_cnn",
        task=ImageClassification(crop_padding=4, crop_fill="mirror", flip=True, label_smoothing=0.1),
        model=CNN(filters=(32, 64, 128), convolutions=3, residual=True, summary="average", units=0),
        data=CIFAR10(),
        train=Train(length="12ep", batch_size=128),
        optim=Optim(optimizer="sgd", learning_rate=0.1, momentum=0.9, nesterov=True, schedule="cosine", warmup="10%", weight_decay=5e-4),
    )
