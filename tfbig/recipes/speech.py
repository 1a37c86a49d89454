"""Recipes for recordings: keywords and other sounds, speech."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.spoken_digits import SpokenDigits
from tfbig.models.matchboxnet import MatchboxNet
from tfbig.tasks.audio_classification import AudioClassification


def spoken_digits_matchboxnet() -> Experiment:
    """Spoken digits by five people: which digit was said.

    python -m tfbig.train spoken_digits_matchboxnet

    Not measured yet.
    """
    return Experiment(
        name="spoken_digits_matchboxnet",
        task=AudioClassification(
            bands=64, speed=0.1, shift_s=0.05, gain_db=6, noise=0.3, masks=2, mask_share=0.1
        ),
        model=MatchboxNet(repeats=1, stride=2, dropout=0.05),
        data=SpokenDigits(),
        train=Train(length="30ep", batch_size=32, shapes=3, evaluate_every="5ep", ema=0.99),
        optim=Optim(
            optimizer="adamw",
            learning_rate=4e-3,
            schedule="cosine",
            warmup="5%",
            weight_decay=0.02,
            clip_norm=5.0,
        ),
    )
