"""The peer of benchmarks/translation.py: the same Transformer in plain PyTorch.

Started by it in an interpreter that has torch; needs neither tfbig nor TensorFlow.

    translation_torch.py BATCHES.npz SIZES train|compiled|write
"""

from __future__ import annotations

import json
import math
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

TOGETHER = 64


def sinusoids(length: int, width: int) -> torch.Tensor:
    angle = torch.arange(length)[:, None] * 10_000 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(length, width)


class Attention(nn.Module):
    """Queries of one sequence, keys and values of the same or another."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.both, self.out = (
            nn.Linear(width, size, bias=False) for size in (width, 2 * width, width)
        )

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, x):
        return [self.split(part) for part in self.both(x).chunk(2, -1)]

    def forward(self, x, keys, values, mask=None, causal=False):
        y = F.scaled_dot_product_attention(
            self.split(self.query(x)), keys, values, attn_mask=mask, is_causal=causal
        )
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, config, decoder: bool):
        super().__init__()
        width = config.width
        self.own = Attention(width, config.heads)
        self.source = Attention(width, config.heads) if decoder else None
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(2 + decoder))
        self.hidden = nn.Linear(width, config.hidden, bias=False)
        self.back = nn.Linear(config.hidden, width, bias=False)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, mask=None, memory=None, cache=None, place=0):
        y = self.norms[0](x)
        keys, values = self.own.keys_values(y)
        if cache is not None:
            cache[0][:, :, place : place + 1], cache[1][:, :, place : place + 1] = keys, values
            keys, values = (part[:, :, : place + 1] for part in cache)
        causal = memory is not None and cache is None
        own_mask = mask if memory is None else None
        x = x + self.drop(self.own(y, keys, values, own_mask, causal))
        if memory is not None:
            x = x + self.drop(self.source(self.norms[1](x), *memory, mask))
        return x + self.drop(self.back(F.relu(self.hidden(self.norms[-1](x)))))


class Translator(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.values, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.encoder = nn.ModuleList(Block(config, False) for _ in range(config.encoder_depth))
        self.decoder = nn.ModuleList(Block(config, True) for _ in range(config.decoder_depth))
        self.norms = nn.ModuleList(nn.RMSNorm(config.width, eps=1e-6) for _ in range(2))
        self.drop = nn.Dropout(config.dropout)
        self.register_buffer("places", sinusoids(512, config.width))

    def embed(self, tokens, place: int = 0):
        scaled = self.embedding(tokens) * math.sqrt(self.config.width)
        return self.drop(scaled + self.places[place : place + tokens.shape[1]])

    def memory(self, source, count):
        mask = (torch.arange(source.shape[1])[None] < count[:, None])[:, None, None]
        x = self.embed(source)
        for block in self.encoder:
            x = block(x, mask)
        x = self.norms[0](x)
        return mask, [block.source.keys_values(x) for block in self.decoder]

    def decode(self, tokens, mask, memory, caches=None, place: int = 0):
        x = self.embed(tokens, place)
        for i, block in enumerate(self.decoder):
            x = block(x, mask, memory[i], caches and caches[i], place)
        return self.norms[1](x) @ self.embedding.weight[: self.config.scored].T

    def forward(self, source, count, before):
        return self.decode(before, *self.memory(source, count))


def trainer(model, batches, compiled: bool):
    run = torch.compile(model, dynamic=True) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    average = [parameter.detach().clone() for parameter in model.parameters()]

    def act(steps: int) -> None:
        for batch in batches[:steps]:
            logits = run(batch["source"], batch["source_count"], batch["before"])
            place = torch.arange(logits.shape[1])[None]
            real = (place < batch["target_count"][:, None]).flatten()
            target = batch["target"].flatten().long().masked_fill(~real, -100)
            loss = F.cross_entropy(logits.flatten(0, 1), target, label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            torch._foreach_lerp_(average, [p.detach() for p in model.parameters()], 0.005)
            loss.item()

    return act


@torch.inference_mode()
def write(model, source, count):
    config = model.config
    mask, memory = model.memory(source, count)
    shape = (len(source), config.heads, config.most, config.width // config.heads)
    caches = [[torch.zeros(shape), torch.zeros(shape)] for _ in model.decoder]
    token = torch.full((len(source), 1), config.end)
    done = torch.zeros(len(source), dtype=torch.bool)
    for place in range(config.most):
        token = model.decode(token, mask, memory, caches, place).argmax(-1)
        done |= token[:, 0] == config.end
        if done.all():
            break


def writer(model, batches):
    model.eval()
    rows = [
        row for batch in batches for row in zip(batch["source"], batch["source_count"], strict=True)
    ]
    rows = rows[:TOGETHER]
    width = max(len(row) for row, _ in rows)
    source = torch.stack([F.pad(row, (0, width - len(row))) for row, _ in rows])
    count = torch.stack([count for _, count in rows])

    def act(steps: int) -> None:
        for _ in range(steps):
            write(model, source, count)

    return act


def main() -> None:
    path, sizes, what = sys.argv[1:4]
    torch.manual_seed(0)
    model = Translator(SimpleNamespace(**json.loads(sizes)))
    arrays = {name: torch.from_numpy(value) for name, value in np.load(path).items()}
    names = ("source", "source_count", "before", "target", "target_count")
    count = len(arrays) // len(names)
    batches = [{name: arrays[f"{name}_{i}"] for name in names} for i in range(count)]
    act = writer(model, batches) if what == "write" else trainer(model, batches, what == "compiled")
    for line in sys.stdin:
        started = time.perf_counter()
        act(json.loads(line)["steps"])
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
