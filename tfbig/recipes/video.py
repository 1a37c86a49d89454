"""Recipes for video classification."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.moving_digits import MovingDigits
from tfbig.data.tfds_videos import TFDSVideos
from tfbig.data.video_folder import VideoFolder
from tfbig.models.movinet import MoViNet
from tfbig.models.r2plus1d import R2Plus1D
from tfbig.tasks.video_classification import VideoClassification


def moving_digits_r2plus1d() -> Experiment:
    """How a digit moves: eight motions that one frame alone says nothing of; semi-synthetic.

    python -m tfbig.train moving_digits_r2plus1d
    # The same of one frame stays at chance, 12.5 %
    python -m tfbig.train moving_digits_r2plus1d data.frames=1

    Measured: test accuracy 100.0 % (99.8 to 100.0; seed 0, 2,000 clips), 13 minutes on 2 CPU cores
    shared with much else; of one frame 11.3 % (10.0 to 12.8).
    """
    return Experiment(
        name="moving_digits_r2plus1d",
        task=VideoClassification(),
        model=R2Plus1D(blocks=(1, 1, 1), width=12, stem="small"),
        data=MovingDigits(),
        train=Train(length="5ep", batch_size=32),
        optim=_optimizer(3e-3),
    )


def moving_digits_movinet() -> Experiment:
    """The same by a causal network, which is served as a stream too, frame after frame.

    python -m tfbig.train moving_digits_movinet

    Not measured yet.
    """
    return Experiment(
        name="moving_digits_movinet",
        task=VideoClassification(),
        model=MoViNet(blocks=(1, 2, 2), width=12),
        data=MovingDigits(),
        train=Train(length="5ep", batch_size=32),
        optim=_optimizer(3e-3),
    )


def own_videos() -> Experiment:
    """Your own clips, GIF or film: a folder with one subfolder for each class.

    # task.flip=false where left and right matter; data.group: what in a path names the subject
    python -m tfbig.train own_videos data.path=FOLDER data.group='(s[0-9]+)_'

    Not measured yet.
    """
    return Experiment(
        name="own_videos",
        task=VideoClassification(shift=4, flip=True, colours=0.3),
        model=R2Plus1D(blocks=(1, 1, 1, 1), width=16, dropout=0.2),
        data=VideoFolder(frames=16, height=64, width=64),
        train=Train(length="30ep", batch_size=16, evaluate_every="5ep", save_every="5ep"),
        optim=_optimizer(2e-3),
    )


def grid_lips() -> Experiment:
    """Spoken digits read from the lips: clips of a mouth, 48 x 32 pixels, grey, of one speaker.

    # Which of 25 letters or 10 digits is spoken; benchmarks/grid_lips.py cuts GRID's speaker s1
    python benchmarks/grid_lips.py grid_s1_mouth.zip FOLDER --word digit
    python -m tfbig.train grid_lips data.path=FOLDER

    Not measured yet.
    """
    return Experiment(
        name="grid_lips",
        task=VideoClassification(shift=3, colours=0.2, label_smoothing=0.1),
        model=R2Plus1D(blocks=(1, 1, 1), width=16, stem="small", dropout=0.2),
        data=VideoFolder(frames=12, height=32, width=48, channels=1, test_share=0.25),
        train=Train(length="25ep", batch_size=32, evaluate_every="5ep", save_every="5ep"),
        optim=_optimizer(3e-3),
    )


def ucf101_r2plus1d() -> Experiment:
    """101 human actions, the first published split of UCF101, from scratch, for accelerators.

    # TFDS_DATA_DIR names a prepared folder, if there is no network
    python -m tfbig.train ucf101_r2plus1d

    Not measured yet; C3D, pre-trained on Sports-1M, is published with 82.92 % (MMAction2).
    """
    return Experiment(
        name="ucf101_r2plus1d",
        task=VideoClassification(clip_frames=16, views=10, shift=12, flip=True, colours=0.3),
        model=R2Plus1D(dropout=0.5),
        data=TFDSVideos(frames=64),
        train=Train(length="45ep", batch_size=32),
        optim=_optimizer(1e-3),
    )


def _optimizer(learning_rate: float) -> Optim:
    return Optim(
        optimizer="adamw",
        learning_rate=learning_rate,
        schedule="cosine",
        warmup="5%",
        weight_decay=0.05,
        clip_norm=5.0,
    )
