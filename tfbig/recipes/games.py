"""Recipes for games."""

from __future__ import annotations

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.bricks import Bricks
from tfbig.data.connect_four import ConnectFour
from tfbig.data.gymnasium import Gymnasium
from tfbig.models.actor_critic import ActorCritic
from tfbig.models.q_network import QNetwork
from tfbig.tasks.policy_gradient import PolicyGradient
from tfbig.tasks.q_learning import QLearning


def bricks_ppo() -> Experiment:
    """A paddle, a ball and a wall of bricks, on a small board; 1,000,000 steps of the game.

    python -m tfbig.train bricks_ppo

    Measured: mean return of 100 test episodes 24.6 with actions drawn (95 % interval 23.0 to 26.2;
    interquartile mean 27.8), 27.3 with the likeliest (28.5), seed 0; 9 minutes on 2 CPU cores
    shared with much else. MinAtar's Breakout, whose rules it follows: PPO 28 with more steps, at
    random 0.5.
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

    Measured: mean return of 100 test episodes 500 with the likeliest action for seeds 0 to 4, and
    500, 500, 500, 499.7 and 500 with actions drawn; 2 to 3 minutes on 2 CPU cores shared with much
    else. CleanRL's PPO: 490 +- 6.
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


def cartpole_dqn() -> Experiment:
    """The same by Q-learning, from a replay: double, duelling, over three steps; 161,000 steps.

    # Steps that surprised are replayed more often
    python -m tfbig.train cartpole_dqn task.priority=0.6

    Measured: mean return of 100 test episodes 499.1 with actions drawn (95 % interval 497.3 to
    500), 500 with the likeliest, seed 0; 5 minutes on 2 CPU cores shared with much else. On the way
    it fell from 450 to 102 and rose again.
    """
    return Experiment(
        name="cartpole_dqn",
        task=QLearning(explored=25_000),
        model=QNetwork(),
        data=Gymnasium(environment="CartPole-v1"),
        train=Train(length="20_000", batch_size=128, evaluate_every="2_500", save_every="2_500"),
        optim=Optim(optimizer="adam", learning_rate=1e-3, schedule="linear", clip_norm=10.0),
    )


def acrobot_ppo() -> Experiment:
    """Two rods swung up, Acrobot-v1 of Gymnasium; 499,712 steps, at most 500 an episode.

    python -m tfbig.train acrobot_ppo

    Measured: mean return of 100 test episodes -88.6, -83.3, -82.0, -82.7, -82.6 with actions drawn,
    -80.8, -85.8, -81.1, -79.7, -80.0 with the likeliest (seeds 0 to 4); 5 minutes on 2 CPU cores
    shared with much else. CleanRL's PPO: -86.4 +- 1.3.
    """
    return Experiment(
        name="acrobot_ppo",
        task=PolicyGradient(environments=8, horizon=128),
        model=ActorCritic(),
        data=Gymnasium(environment="Acrobot-v1"),
        train=Train(length="7_808", batch_size=256, evaluate_every="976", save_every="976"),
        optim=_optimizer(1e-3),
    )


def connect_four_ppo() -> Experiment:
    """Connect Four against an opponent who sees one move ahead; 1.5 million moves.

    # It beats data.opponent=random, too
    python -m tfbig.train connect_four_ppo

    Not measured yet.
    """
    return Experiment(
        name="connect_four_ppo",
        task=PolicyGradient(environments=64, horizon=32),
        model=ActorCritic(
            units=(128,), filters=(64,), kernels=(4,), activation="relu", shared=True
        ),
        data=ConnectFour(episodes=200),
        # 732 times 2,048 moves, each trained on in 4 epochs of 4 batches
        train=Train(length="11_712", batch_size=512, evaluate_every="1_952", save_every="1_952"),
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
