"""Recipes for translation."""

from __future__ import annotations

from tfbig.core.experiment import Device, Experiment, Optim, Train
from tfbig.data.parallel_text import ParallelText
from tfbig.models.encoder_decoder import EncoderDecoder
from tfbig.tasks.translation import Translation

SMALL = EncoderDecoder(width=192, encoder_depth=3, decoder_depth=2, heads=3, hidden=512)
# Small batches: many steps count more than large ones at equal tokens
SCHEDULE = Optim(
    optimizer="adamw",
    learning_rate=2e-3,
    schedule="cosine",
    final_fraction=0.02,
    warmup="200",
    weight_decay=0.01,
    beta_2=0.98,
    clip_norm=1.0,
)


def multi30k_transformer() -> Experiment:
    """Descriptions of pictures from German to English by a small Transformer; files of your own.

    # FOLDER holds train.de, train.en, val.de, val.en, test_2016_flickr.de, test_2016_flickr.en
    python -m tfbig.train multi30k_transformer data.path=FOLDER

    Not measured yet.
    """
    return Experiment(
        name="multi30k_transformer",
        task=Translation(),
        model=SMALL,
        data=ParallelText(
            source="de",
            target="en",
            test_file="test_2016_flickr",
            vocabulary=6000,
            max_source=64,
            max_target=64,
        ),
        train=Train(length="6ep", batch_size=32, ema=0.995),
        optim=SCHEDULE,
        device=Device(jit="true", block=8),
    )
