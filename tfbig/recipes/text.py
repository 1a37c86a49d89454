"""Recipes for text generation."""

from __future__ import annotations

from tfbig.core.experiment import Device, Experiment, Optim, Train
from tfbig.data.sotu import SOTU
from tfbig.data.text_files import TextFiles
from tfbig.data.tiny_shakespeare import TinyShakespeare
from tfbig.models.gpt import GPT
from tfbig.models.lstm_lm import LSTMLM
from tfbig.tasks.text_generation import TextGeneration


def sotu_gpt() -> Experiment:
    """Speeches of American presidents by a small GPT with rotary positions; needs no download.

    python -m tfbig.train sotu_gpt

    Measured: 1.346 bits per byte on test, 1.373 on validation; loss 3.449 and 3.529 nats per token
        (seed 0), 20 min on 2 shared cores.
    """
    return Experiment(
        name="sotu_gpt",
        task=TextGeneration(prompt="My fellow citizens, "),
        model=GPT(
            width=128,
            depth=4,
            heads=4,
            positions="rope",
            normalization="rms",
            activation="relu2",
            qk_norm=True,
        ),
        data=SOTU(context=128, tokenizer="bpe", vocabulary=2048),
        train=Train(length="2000", batch_size=16, evaluate_every="500", save_every="500"),
        optim=Optim(
            optimizer="adamw",
            learning_rate=3e-3,
            schedule="cosine",
            final_fraction=0.1,
            warmup="100",
            weight_decay=0.1,
            beta_2=0.99,
            clip_norm=1.0,
        ),
    )


def shakespeare_char_gpt() -> Experiment:
    """Shakespeare letter by letter.

    NanoGPT's small configuration for CPUs, at three times its learning rate.

    # TFDS_DATA_DIR names a prepared folder, if there is no network
    python -m tfbig.train shakespeare_char_gpt

    Measured: loss 1.736, 1.729, 1.732 on the whole validation split, 1.824, 1.817, 1.806 on test
        (seeds 0, 1, 2). At nanoGPT's own
    learning rate of 1e-3: 1.893 and 1.924; its README reports 1.88 on a sample of validation
    windows.
    """
    return Experiment(
        name="shakespeare_char_gpt",
        task=TextGeneration(),
        model=GPT.of("char", bias=False),
        data=TinyShakespeare(context=64, stride=1),
        train=Train(length="2000", batch_size=12, evaluate_every="500", save_every="500"),
        optim=Optim(
            optimizer="adamw",
            learning_rate=3e-3,
            schedule="cosine",
            final_fraction=0.1,
            warmup="100",
            weight_decay=0.1,
            beta_1=0.9,
            beta_2=0.99,
            clip_norm=1.0,
        ),
    )


shakespeare_char_gpt.search = (
    "model.depth=int:2..6",
    "model.width=in:64,128,192",
    "model.positions=in:learned,rope",
    "model.dropout=lin:0..0.2",
    "optim.learning_rate=log:5e-4..1e-2",
    "optim.weight_decay=log:1e-2..3e-1",
    "train.batch_size=in:8,12,24",
)


def shakespeare_char_gpt_fast() -> Experiment:
    """Shakespeare letter by letter, in as little time as we can.

    python -m tfbig.train shakespeare_char_gpt_fast

    Measured: loss 1.851, 1.822, 1.827 over the whole validation split, 1.895, 1.883, 1.881 on test
    (seeds 0, 1, 2), after a fifth of shakespeare_char_gpt's steps; Muon (Jordan et al. 2024) makes
    them count.
    """
    return Experiment(
        name="shakespeare_char_gpt_fast",
        task=TextGeneration(),
        model=GPT(
            width=128,
            depth=3,
            heads=4,
            positions="rope",
            normalization="rms",
            activation="relu2",
            qk_norm=True,
        ),
        data=TinyShakespeare(context=64, stride=1),
        train=Train(length="400", batch_size=12, evaluate_every="100%", save_every="100%"),
        optim=Optim(
            optimizer="muon",
            learning_rate=1e-2,
            schedule="cosine",
            final_fraction=0.02,
            warmup="50",
            weight_decay=0.1,
            beta_1=0.9,
            beta_2=0.99,
            clip_norm=1.0,
        ),
    )


def shakespeare_lstm() -> Experiment:
    """Shakespeare letter by letter by an LSTM, the recurrent baseline.

    python -m tfbig.train shakespeare_lstm

    Measured: loss 1.637 on validation, 1.719 on test, 2.479 bits per byte (seed 0), 9 min on 2
        shared cores.
    """
    return Experiment(
        name="shakespeare_lstm",
        task=TextGeneration(),
        model=LSTMLM(width=64, units=(256,)),
        data=TinyShakespeare(context=64, stride=1),
        train=Train(length="2000", batch_size=32, evaluate_every="500", save_every="500"),
        optim=Optim(
            optimizer="adamw",
            learning_rate=4e-3,
            schedule="cosine",
            final_fraction=0.05,
            warmup="50",
            clip_norm=1.0,
        ),
    )


def tang_poems_gpt() -> Experiment:
    """Chinese poems of the Tang dynasty, character by character, from a file of your own.

    # Poems behind each other, an empty line between them
    python -m tfbig.train tang_poems_gpt data.path=tang_poems.txt

    Measured: loss 4.578 on validation, 4.577 on test, 2.338 bits per byte (seed 0), 7 min on 2
    shared cores, with 3.3 MB of poems from the Complete Tang Poems.
    """
    return Experiment(
        name="tang_poems_gpt",
        task=TextGeneration(),
        model=GPT(
            width=128,
            depth=4,
            heads=4,
            positions="rope",
            normalization="rms",
            activation="relu2",
            qk_norm=True,
        ),
        data=TextFiles(separator=r"\n\n", context=64, min_count=2, script="cjk"),
        train=Train(length="2000", batch_size=24, evaluate_every="500", save_every="500"),
        optim=Optim(
            optimizer="adamw",
            learning_rate=3e-3,
            schedule="cosine",
            final_fraction=0.1,
            warmup="100",
            weight_decay=0.1,
            beta_2=0.99,
            clip_norm=1.0,
        ),
    )


def gpt2_124m() -> Experiment:
    """GPT-2 with 124 million parameters on text of your own, for accelerators.

    # Vocab.json and merges.txt
    python -m tfbig.train gpt2_124m data.path=FOLDER data.vocabulary_path=FOLDER

    Half a million tokens a step, as published; train.accumulate makes it fit. Not measured as a
    whole: one window of 1,024 tokens, forwards, backwards and update, takes 6.8 s in float32 on 2
    CPU cores.
    """
    return Experiment(
        name="gpt2_124m",
        task=TextGeneration(),
        model=GPT.of("gpt2_124m"),
        data=TextFiles(context=1024, tokenizer="ready"),
        train=Train(
            length="19_073", batch_size=512, accumulate=32, evaluate_every="500", save_every="500"
        ),
        optim=Optim(
            optimizer="adamw",
            learning_rate=6e-4,
            schedule="cosine",
            final_fraction=0.1,
            warmup="700",
            weight_decay=0.1,
            beta_1=0.9,
            beta_2=0.95,
            clip_norm=1.0,
        ),
        device=Device(precision="bfloat16", block=1),
    )
