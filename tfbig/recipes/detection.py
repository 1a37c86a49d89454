"""Recipes for object detection."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.bccd import BCCD
from tfbig.data.detection_folder import DetectionFolder
from tfbig.data.tfds_detection import TFDSDetection
from tfbig.models.resnet_fpn import ResNetFPN
from tfbig.tasks.object_detection import ObjectDetection


def bccd_centernet() -> Experiment:
    """Blood cells under a microscope: red cells, white cells and platelets, from scratch.

    python -m tfbig.train bccd_centernet

    Measured: test AP 53.0 %, AP50 87.4 % (seed 0, 72 pictures; COCO's settings by pycocotools), 30
    minutes on 2 CPU cores shared with much else.
    """
    return Experiment(
        name="bccd_centernet",
        task=ObjectDetection(zoom=1.4, flip="all", colours=0.3),
        model=ResNetFPN(width=24, features=48),
        data=BCCD(most_boxes=32),
        train=Train(
            length="50ep", batch_size=8, evaluate_every="10ep", save_every="10ep", ema=0.99
        ),
        optim=Optim(
            optimizer="adamw",
            learning_rate=2e-3,
            schedule="cosine",
            warmup="5%",
            weight_decay=0.05,
            clip_norm=5.0,
        ),
    )


def own_boxes() -> Experiment:
    """Your own pictures with boxes, a folder in COCO's, Pascal VOC's or YOLO's form.

    # Task.flip=none where left and right matter
    python -m tfbig.train own_boxes data.path=FOLDER

    Not measured yet.
    """
    return Experiment(
        name="own_boxes",
        task=ObjectDetection(zoom=1.5, flip="sideways", colours=0.3),
        model=ResNetFPN(width=32, features=64),
        data=DetectionFolder(height=320, width=320),
        train=Train(
            length="50ep", batch_size=8, evaluate_every="10ep", save_every="10ep", ema=0.99
        ),
        optim=Optim(
            optimizer="adamw",
            learning_rate=2e-3,
            schedule="cosine",
            warmup="5%",
            weight_decay=0.05,
            clip_norm=5.0,
        ),
    )


def coco_centernet() -> Experiment:
    """COCO's 80 classes from scratch, for accelerators.

    # TFDS_DATA_DIR names a prepared folder, if there is no network
    python -m tfbig.train coco_centernet

    Not measured yet; the same kind of model, begun with weights of ImageNet, is published with AP
    28.1 (ResNet-18, 24 epochs, 512 pixels: Liu et al. 2020).
    """
    return Experiment(
        name="coco_centernet",
        task=ObjectDetection(zoom=1.7, flip="sideways", colours=0.4),
        model=ResNetFPN(depth=18, features=128, zero_gamma=True),
        data=TFDSDetection(height=512, width=512),
        train=Train(length="72ep", batch_size=64, ema=0.9998),
        optim=Optim(
            optimizer="adamw",
            learning_rate=1e-3,
            schedule="cosine",
            warmup="2%",
            weight_decay=0.05,
            clip_norm=5.0,
        ),
    )
