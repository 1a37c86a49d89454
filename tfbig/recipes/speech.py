"""Recipes for recordings: keywords and other sounds, speech."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.audio_folder import AudioFolder
from tfbig.data.connected_digits import ConnectedDigits
from tfbig.data.speech_folder import SpeechFolder
from tfbig.data.spoken_digits import SpokenDigits
from tfbig.models.crnn import CRNN
from tfbig.models.matchboxnet import MatchboxNet
from tfbig.tasks.audio_classification import AudioClassification
from tfbig.tasks.speech_recognition import SpeechRecognition


def spoken_digits_matchboxnet() -> Experiment:
    """Spoken digits by five people: which digit was said.

    python -m tfbig.train spoken_digits_matchboxnet

    Measured: 98.0 % of the published test split (seed 0, 250 recordings; 91.9 to 100 % by speaker),
    4 minutes on 2 CPU cores shared with much else.
    """
    return Experiment(
        name="spoken_digits_matchboxnet",
        task=AudioClassification(
            bands=64,
            normalize="recording",
            speed=0.1,
            shift_s=0.05,
            noise=0.3,
            masks=1,
            mask_share=0.1,
        ),
        model=MatchboxNet(repeats=2, dropout=0.1),
        data=SpokenDigits(),
        train=Train(length="30ep", batch_size=32, shapes=3, evaluate_every="5ep", ema=0.995),
        optim=Optim(
            optimizer="adamw",
            learning_rate=4e-3,
            schedule="cosine",
            warmup="5%",
            weight_decay=0.02,
            clip_norm=5.0,
        ),
    )


def own_sounds() -> Experiment:
    """Your own recordings, a folder for each class or a table: keywords, speakers, sounds.

    python -m tfbig.train own_sounds data.path=FOLDER

    Measured on 8 keywords of Speech Commands (480 recordings to train on and validate with, 160 by
    other people to test): 85.6 % (seed 0, 95 % interval by speaker 79.2 to 91.8), 4 minutes on 2
    CPU cores shared with much else.
    """
    return Experiment(
        name="own_sounds",
        task=AudioClassification(
            bands=64,
            normalize="recording",
            speed=0.1,
            shift_s=0.1,
            noise=0.5,
            masks=2,
            mask_share=0.1,
        ),
        model=MatchboxNet(repeats=2, stride=2, dropout=0.1),
        data=AudioFolder(),
        train=Train(length="60ep", batch_size=16, shapes=3, evaluate_every="10ep", ema=0.99),
        optim=Optim(
            optimizer="adamw",
            learning_rate=3e-3,
            schedule="cosine",
            warmup="5%",
            weight_decay=0.05,
            clip_norm=5.0,
        ),
    )


def connected_digits_crnn() -> Experiment:
    """One to seven spoken digits in a row, as words.

    python -m tfbig.train connected_digits_crnn

    Measured: test WER 2.9 %, CER 1.7 % (seed 0, 300 rows, 95 % interval of WER by speaker 0.02 to
    10.2 %: almost all errors are one speaker's), 20 minutes on 2 CPU cores shared with much else.
    """
    return Experiment(
        name="connected_digits_crnn",
        task=SpeechRecognition(bands=64, speed=0.1, gain_db=6, noise=0.3, masks=2, mask_share=0.05),
        model=CRNN(channels=96, blocks=3, units=(96,)),
        data=ConnectedDigits(train_rows=6000),
        train=Train(length="6ep", batch_size=16, shapes=4, evaluate_every="2ep", ema=0.995),
        optim=Optim(
            optimizer="adamw",
            learning_rate=2e-3,
            schedule="cosine",
            warmup="4%",
            final_fraction=0.01,
            weight_decay=0.01,
            clip_norm=5.0,
            beta_2=0.98,
        ),
    )


def own_speech() -> Experiment:
    """Your own transcribed speech: a table, or LibriSpeech's, LJSpeech's or Kaldi's form.

    python -m tfbig.train own_speech data.path=TABLE

    Measured on CMU AN4's published split (seed 0, 38 of the 60 epochs, 4 shapes): test WER 13.2 %
    and CER 5.6 % greedy; 7.5 % and 4.0 % by 24 beams over the training words. 12 minutes on 2 CPU
    cores shared with much else.
    """
    return Experiment(
        name="own_speech",
        task=SpeechRecognition(speed=0.1, masks=2, mask_bands=10, mask_share=0.05),
        model=CRNN(),
        data=SpeechFolder(),
        train=Train(length="60ep", batch_size=8, shapes=6, evaluate_every="6ep"),
        optim=Optim(
            optimizer="adamw",
            learning_rate=2e-3,
            schedule="cosine",
            warmup="4%",
            final_fraction=0.01,
            weight_decay=0.01,
            clip_norm=5.0,
            beta_2=0.98,
        ),
    )
