"""Recipes for object detection."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.bccd import BCCD
from tfbig.models.resnet_fpn import ResNetFPN
from tfbig.tasks.object_detection import ObjectDetection


def bccd_centernet() -> Experiment:
    """Blood cells under a microscope: red cells, white cells and platelets, from scratch.

    python -m tfbig.train bccd_centernet
    """
    return Experiment(
        name="bccd_centernet",
        task=ObjectDetection(zoom=1.4, flip="all", colours=0.3),
        model=ResNetFPN(width=24, features=48),
        data=BCCD(most_boxes=32),
        train=Train(length="60ep", batch_size=8, evaluate_every="5ep", save_every="5ep", ema=0.99),
        optim=Optim(
            optimizer="adamw",
            learning_rate=2e-3,
            schedule="cosine",
            warmup="5%",
            weight_decay=0.05,
            clip_norm=5.0,
        ),
    )
