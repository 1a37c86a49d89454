"""Recipes for games."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.bricks import Bricks
from tfbig.data.gymnasium import Gymnasium
from tfbig.models.actor_critic import ActorCritic
from tfbig.tasks.policy_gradient import PolicyGradient


def bricks_ppo() -> Experiment:
    """A paddle, a ball and a wall of bricks, on a small board; 1,000,000 steps of the game.

    python -m tfbig.train bricks_ppo

    Not measured yet.
    """
    return Experiment(
        name="bricks_ppo",
        task=PolicyGradient(environments=32, horizon=128),
        model=ActorCritic(
            units=(128,), filters=(16,), kernels=(3,), activation="relu", shared=True
        ),
        data=Bricks(),
        # 244 times 4,096 steps of the game, each trained on in 4 epochs of 16 batches
        train=Train(length="15_616", batch_size=256, evaluate_every="1_280", save_every="1_280"),
        optim=_optimizer(1e-3),
    )


def cartpole_ppo() -> Experiment:
    """A pole balanced on a cart, CartPole-v1 of Gymnasium; 499,712 steps, at most 500 an episode.

    python -m tfbig.train cartpole_ppo

    Not measured yet.
    """
    return Experiment(
        name="cartpole_ppo",
        task=PolicyGradient(environments=8, horizon=128),
        model=ActorCritic(),
        data=Gymnasium(environment="CartPole-v1"),
        # 488 times 1,024 steps, each trained on in 4 epochs of 4 batches
        train=Train(length="7_808", batch_size=256, evaluate_every="976", save_every="976"),
        optim=_optimizer(1e-3),
    )


def acrobot_ppo() -> Experiment:
    """Two rods swung up, Acrobot-v1 of Gymnasium; 499,712 steps, at most 500 an episode.

    python -m tfbig.train acrobot_ppo

    Not measured yet.
    """
    return Experiment(
        name="acrobot_ppo",
        task=PolicyGradient(environments=8, horizon=128),
        model=ActorCritic(),
        data=Gymnasium(environment="Acrobot-v1"),
        train=Train(length="7_808", batch_size=256, evaluate_every="976", save_every="976"),
        optim=_optimizer(1e-3),
    )


def _optimizer(learning_rate: float) -> Optim:
    return Optim(
        optimizer="adam",
        learning_rate=learning_rate,
        schedule="linear",
        clip_norm=0.5,
        epsilon=1e-5,
    )
