"""The peer of benchmarks/gpt.py.

GPT-2's architecture in plain PyTorch, trained and sampled as is usual there.

Started by gpt.py in an interpreter that has torch; needs neither tfbig nor TensorFlow.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
        self.qkv, self.out = (
            nn.Linear(width, 3 * width, bias=bias),
            nn.Linear(width, width, bias=bias),
        )
        self.hidden, self.back = (
            nn.Linear(width, 4 * width, bias=bias),
            nn.Linear(4 * width, width, bias=bias),
        )

    def forward(self, x, cache=None, at: int = 0):
        b, t, d = x.shape
        q, k, v = (
            part.view(b, t, self.heads, d // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).split(d, dim=2)
        )
        if cache is not None:
            cache[0][:, :, at : at + t], cache[1][:, :, at : at + t] = k, v
            k, v = cache[0][:, :, : at + t], cache[1][:, :, : at + t]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.back(F.gelu(self.hidden(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, size: int, context: int, width: int, depth: int, heads: int, bias: bool):
        super().__init__()
        self.context = context
        self.tokens, self.position = nn.Embedding(size, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, bias) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width, bias=bias), nn.Linear(width, size, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(
                    parameter,
                    std=(
                        0.02 / math.sqrt(2 * depth)
                        if name.endswith(("out.weight", "back.weight"))
                        else 0.02
                    ),
                )
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens, caches=None, at: int = 0, last: bool = False):
        x = self.tokens(tokens) + self.position(torch.arange(at, at + tokens.shape[1]))
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i], at)
        return self.head(self.norm(x[:, -1:] if last else x))

    def optimizer(self, rate: float, decay: float):
        groups = [
            {"params": [p for p in self.parameters() if p.dim() >= 2], "weight_decay": decay},
            {"params": [p for p in self.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True)

    @torch.inference_mode()
    def write(self, prompt, length: int, temperature: float):
        """Sampled tokens behind a prompt [b, t], with a cache of keys and values."""
        heads, width = self.blocks[0].heads, self.tokens.weight.shape[1]
        shape = (prompt.shape[0], heads, self.context, width // heads)
        caches, tokens, at, made = (
            [(torch.zeros(shape), torch.zeros(shape)) for _ in self.blocks],
            prompt,
            0,
            [],
        )
        for _ in range(length):
            logits = self(tokens, caches, at, last=True)[:, -1]
            at += tokens.shape[1]
            tokens = torch.multinomial(F.softmax(logits / temperature, -1), 1)
            made.append(tokens)
        return torch.cat(made, 1)


def batch(data, context: int, size: int):
    start = torch.randint(len(data) - context, (size,))
    return torch.stack([data[i : i + context] for i in start]), torch.stack(
        [data[i + 1 : i + context + 1] for i in start]
    )


def step_of(setting: dict, model, forward, optimizer, data):
    """One training step on a fresh batch."""
    size = setting["shape"]["size"]

    def step():
        x, y = batch(data, setting["shape"]["context"], setting["batch"])
        loss = F.cross_entropy(forward(x).view(-1, size), y.view(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step


def to_target(setting: dict, model, forward, optimizer, step) -> dict:
    """Seconds of training, compiling included, until the loss over the validation split is at most
    the target.
    """
    held = torch.tensor(setting["validation"])
    context, spent, total, curve = setting["shape"]["context"], 0.0, setting["steps"], []
    whole = (len(held) - 1) // context * context
    x, y = held[:whole].view(-1, context), held[1 : whole + 1].view(-1, context)
    for number in range(total):
        started = time.perf_counter()
        warm, share = 100, (number - 100) / (total - 100)
        rate = setting["rate"] * (
            number / warm if number < warm else 0.1 + 0.45 * (1 + math.cos(math.pi * share))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        step()
        spent += time.perf_counter() - started
        if (number + 1) % 100 == 0:
            with torch.no_grad():
                loss = (
                    sum(
                        float(F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum"))
                        for a, b in zip(x.split(64), y.split(64), strict=True)
                    )
                    / whole
                )
            curve.append([number + 1, round(spent, 2), round(loss, 4)])
            if loss <= setting["target"]:
                break
    return {"curve": curve, "seconds": spent, "loss": curve[-1][2]}


def main() -> None:
    setting = json.loads(sys.stdin.readline())
    torch.manual_seed(setting["seed"])
    model = GPT(**setting["shape"])
    started = time.perf_counter()
    if setting["what"] == "generate":
        prompt = torch.zeros((setting["batch"], 1), dtype=torch.long)
        act, forward = (lambda: model.write(prompt, setting["steps"], 0.8)), None
    else:
        forward = torch.compile(model) if setting["compile"] else model
        optimizer = model.optimizer(setting["rate"], 0.1)
        data = (
            torch.tensor(setting["train"])
            if setting["train"]
            else torch.randint(setting["shape"]["size"], (100_000,))
        )
        step = step_of(setting, model, forward, optimizer, data)

        def act():
            for _ in range(setting["steps"]):
                step()

    if setting["what"] == "target":
        print(json.dumps(to_target(setting, model, forward, optimizer, step)), flush=True)
        return
    act()
    print(json.dumps({"start": time.perf_counter() - started}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        act()
        seconds = time.perf_counter() - started
        print(
            json.dumps(
                {
                    "seconds": seconds,
                    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
