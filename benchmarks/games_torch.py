"""PPO in plain PyTorch, for games.py: the settings of our recipes, timed rollout by rollout."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

HORIZON, EPOCHS, BATCH = 128, 4, 256
DISCOUNT, TRACE, CLIP, VALUE, ENTROPY, RATE = 0.99, 0.95, 0.2, 0.5, 0.01, 1e-3


class CartPoles:
    """CartPole-v1 by Gymnasium's own vector of environments, with its automatic resets."""

    n = 8

    def __init__(self):
        import gymnasium

        same = gymnasium.vector.AutoresetMode.SAME_STEP
        self.envs = gymnasium.vector.SyncVectorEnv(
            [lambda: gymnasium.make("CartPole-v1") for _ in range(self.n)], autoreset_mode=same
        )

    def reset(self):
        return self.envs.reset(seed=0)[0]

    def step(self, action):
        seen, reward, terminated, truncated, _ = self.envs.step(action)
        return seen, reward, terminated | truncated


class Boards:
    """Our own vectorised bricks."""

    n = 32

    def __init__(self):
        sys.path.insert(0, str(Path(__file__).parent.parent))
        from tfbig.data.bricks import Bricks

        self.data, self.count = Bricks(), 0
        self.games = self.data.environments(np.arange(self.n))

    def reset(self):
        return self.games.observe()["observation"]

    def step(self, action):
        reward, terminated, truncated = self.games.step(action)
        ended = terminated | truncated
        if ended.any():
            self.count += self.n
            self.games.restart(ended, self.count + np.arange(self.n))
        return self.games.observe()["observation"], reward, ended


def layer(module, gain=2**0.5):
    nn.init.orthogonal_(module.weight, gain)
    nn.init.zeros_(module.bias)
    return module


class MLP(nn.Module):
    def __init__(self):
        super().__init__()

        def body():
            first, second = layer(nn.Linear(4, 64)), layer(nn.Linear(64, 64))
            return [first, nn.Tanh(), second, nn.Tanh()]

        self.actor = nn.Sequential(*body(), layer(nn.Linear(64, 2), 0.01))
        self.critic = nn.Sequential(*body(), layer(nn.Linear(64, 1), 1.0))

    def forward(self, x):
        return self.actor(x), self.critic(x)[:, 0]


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        first, second = layer(nn.Conv2d(4, 16, 3)), layer(nn.Linear(1024, 128))
        self.body = nn.Sequential(first, nn.ReLU(), nn.Flatten(), second, nn.ReLU())
        self.policy, self.value = layer(nn.Linear(128, 3), 0.01), layer(nn.Linear(128, 1), 1.0)

    def forward(self, x):
        features = self.body(x.permute(0, 3, 1, 2))
        return self.policy(features), self.value(features)[:, 0]


class Trainer:
    def __init__(self, envs, model):
        self.envs, self.model = envs, model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=RATE, eps=1e-5)
        self.seen = self.tensor(envs.reset())

    @staticmethod
    def tensor(array):
        return torch.as_tensor(np.asarray(array, np.float32))

    def rollout(self) -> None:
        n, steps = self.envs.n, []
        for _ in range(HORIZON):
            with torch.no_grad():
                logits, value = self.model(self.seen)
                policy = torch.distributions.Categorical(logits=logits)
                action = policy.sample()
            seen, reward, ended = self.envs.step(action.numpy())
            log = policy.log_prob(action)
            kept = (self.seen, action, log, value, self.tensor(reward), self.tensor(ended))
            steps.append(kept)
            self.seen = self.tensor(seen)
        seen, action, log, value, reward, ended = map(torch.stack, zip(*steps, strict=True))
        with torch.no_grad():
            following = self.model(self.seen)[1]
        advantage, last = torch.zeros_like(reward), torch.zeros(n)
        for t in reversed(range(HORIZON)):
            going = 1 - ended[t]
            difference = reward[t] + DISCOUNT * following * going - value[t]
            last = difference + DISCOUNT * TRACE * going * last
            advantage[t], following = last, value[t]
        flat = [x.flatten(0, 1) for x in (seen, action, log, value, advantage, advantage + value)]
        self.train(*flat)

    def train(self, seen, action, log, value, advantage, target) -> None:
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(seen)).split(BATCH):
                logits, now = self.model(seen[rows])
                policy = torch.distributions.Categorical(logits=logits)
                ratio = (policy.log_prob(action[rows]) - log[rows]).exp()
                gain = advantage[rows]
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                within = ratio.clamp(1 - CLIP, 1 + CLIP)
                loss = torch.max(-gain * ratio, -gain * within).mean()
                near = value[rows] + (now - value[rows]).clamp(-CLIP, CLIP)
                error = torch.max((now - target[rows]) ** 2, (near - target[rows]) ** 2)
                loss = loss + VALUE * 0.5 * error.mean() - ENTROPY * policy.entropy().mean()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
                self.optimizer.step()


def main() -> None:
    torch.set_num_threads(1)  # of products this small, two threads are many times slower
    torch.manual_seed(0)
    trainer = {"cartpole_ppo": lambda: Trainer(CartPoles(), MLP())}
    trainer["bricks_ppo"] = lambda: Trainer(Boards(), CNN())
    chosen = trainer[sys.argv[1]]()
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(json.loads(line)["steps"]):
            chosen.rollout()
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
