"""The peer of benchmarks/speech.py: the same recogniser in plain PyTorch.

Started by it in an interpreter that has torch; needs neither tfbig nor TensorFlow.

    speech_torch.py BATCHES.npz SIZES eager|compiled

Batch normalisation takes padding in, as PyTorch's does; ours leaves it out.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def mel_filters(config) -> torch.Tensor:
    """Triangles of equal height on HTK's scale; their exact form costs nothing more."""
    high = 2595 * np.log10(1 + config.rate_hz / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, high, config.bands + 2) / 2595) - 1)
    hertz = np.arange(config.points // 2 + 1) * config.rate_hz / config.points
    width = np.diff(edges)
    rising = (hertz[:, None] - edges[:-2]) / width[:-1]
    falling = (edges[2:] - hertz[:, None]) / width[1:]
    return torch.tensor(np.maximum(0, np.minimum(rising, falling)), dtype=torch.float32)


class Separable(nn.Module):
    def __init__(self, channels: int, kernel: int, stride: int = 1):
        super().__init__()
        self.deep = nn.Conv1d(
            channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False
        )
        self.mix = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x):
        return F.silu(self.norm(self.mix(self.deep(x))))


class Recogniser(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config.channels
        self.register_buffer("hann", torch.hann_window(config.window))
        self.register_buffer("mel", mel_filters(config))
        self.stem = nn.Conv1d(config.bands, width, 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm1d(width)
        self.down = Separable(width, 7, 2)
        self.blocks = nn.ModuleList(Separable(width, config.kernel) for _ in range(config.blocks))
        self.drop = nn.Dropout(config.dropout / 2)
        self.lstm = nn.LSTM(width, config.units, batch_first=True, bidirectional=True)
        self.last_drop = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(2 * config.units)
        self.head = nn.Linear(2 * config.units, config.values)

    def frames(self, samples, count):
        config = self.config
        power = torch.stft(
            samples,
            config.points,
            config.hop,
            config.window,
            self.hann,
            pad_mode="constant",
            return_complex=True,
        )
        mel = torch.matmul(power.abs().square().transpose(1, 2), self.mel)
        frames, number = mel.clamp(min=1e-10).log(), 1 + count // config.hop
        real = (torch.arange(frames.shape[1])[None] < number[:, None])[:, :, None]
        mean = (frames * real).sum(1, keepdim=True) / number[:, None, None]
        centred = (frames - mean) * real
        variance = centred.square().sum(1, keepdim=True) / number[:, None, None]
        return (centred / (variance + 1e-3).sqrt()).transpose(1, 2), number

    def encoded(self, x):
        x = self.down(F.silu(self.stem_norm(self.stem(x))))
        for block in self.blocks:
            x = x + self.drop(block(x))
        return x.transpose(1, 2)

    def forward(self, samples, count, encoded):
        with torch.no_grad():
            x, number = self.frames(samples, count)
        x = encoded(x)
        number = (number + 3) // 4
        packed = pack_padded_sequence(x, number, batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(self.norm(self.last_drop(x))), number


def main() -> None:
    path, sizes, how = sys.argv[1:]
    torch.manual_seed(0)
    model = Recogniser(SimpleNamespace(**json.loads(sizes))).train()
    encoded = torch.compile(model.encoded, dynamic=True) if how == "compiled" else model.encoded
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    stored = np.load(path)
    batches = []
    for step in range(sum(name.startswith("samples_count_") for name in stored.files)):
        names = ("samples", "samples_count", "text", "text_count")
        batches.append([torch.tensor(stored[f"{name}_{step}"]) for name in names])
    for line in sys.stdin:
        started = time.perf_counter()
        for step in range(json.loads(line)["steps"]):
            samples, count, text, text_count = batches[step]
            logits, number = model(samples, count.long(), encoded)
            log_p = F.log_softmax(logits, -1).transpose(0, 1)
            losses = F.ctc_loss(log_p, text.long() + 1, number, text_count.long(), reduction="none")
            loss = losses.mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            torch._foreach_lerp_(average, [p.detach() for p in model.parameters()], 0.005)
            loss.item()
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
