"""Q-learning's replay, and what it makes of it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from test_games import TwoStates
from training import Silent

from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.data.keys_and_doors import KeysAndDoors
from tfbig.engine import loop
from tfbig.engine.setup import Setup
from tfbig.models.q_network import QNetwork
from tfbig.tasks.q_learning import QLearning, Replay


def experiment_of(data, task, length=300):
    return Experiment(
        name="small",
        task=task,
        model=QNetwork(units=(32,)),
        data=data,
        train=Train(
            length=str(length),
            batch_size=32,
            evaluate_every=str(length),
            save_every=str(length),
            final_split="none",
        ),
        optim=Optim(optimizer="adam", learning_rate=0.01, schedule="linear"),
    )


def replay_of(**knobs):
    task = QLearning(environments=2, begin=40, replay=60, explored=100, discount=0.5, **knobs)
    data = KeysAndDoors(side=4, doors=0, episodes=4)
    setup = Setup(experiment_of(data, task), {})
    return Replay(setup.task, setup.model, 16, 0)


def test_returns_over_several_steps_stop_where_an_episode_does():
    replay = replay_of(steps=3)
    replay.filled[...] = 10
    replay.replay["reward"][:5, 0] = (1, 2, 4, 8, 16)
    replay.replay["ended"][2, 0] = True
    replay.replay["terminated"][2, 0] = True
    replay.replay["ended"][4, 0] = True  # cut off
    for row in range(6):
        replay.replay["next_observation"][row, 0] = row
    batch = replay._transitions(2 * np.arange(4))  # of the first environment
    assert batch["reward"].tolist() == [1 + 2 / 2 + 4 / 4, 2 + 4 / 2, 4, 8 + 16 / 2]
    # Nothing follows a termination; what follows a truncation is valued two steps later
    assert batch["discount"].tolist() == [0, 0, 0, 0.25]
    assert batch["next_observation"][:, 0, 0, 0].tolist() == [2, 2, 2, 4]


def test_the_oldest_steps_are_overwritten_and_incomplete_ones_are_not_drawn():
    replay = replay_of(steps=3)
    assert replay.rows == 30
    for _ in range(20):
        replay.batch(0)
    assert int(replay.filled) == 40  # 20 rows at random, then one for each batch
    ages = replay._ages()
    assert len(ages) == 28 and ages[0] == int(replay.filled) % 30
    newest = (int(replay.filled) - 1) % 30
    assert newest not in ages and (newest - 1) % 30 not in ages


def test_what_surprises_is_replayed_more_often_and_counts_less():
    replay = replay_of(steps=1, priority=1.0, correction=1.0)
    replay.batch(0)
    places = (replay._ages()[:, None] * 2 + np.arange(2)).ravel()
    replay.priorities[:] = 0
    replay.priorities[places] = 1.0
    replay.priorities[places[0]] = len(places) - 1  # as likely as all others together
    replay.batch_size = 4000
    drawn, weight = replay._choose(np.random.default_rng(0))
    assert abs((drawn == places[0]).mean() - 0.5) < 0.03
    assert weight[drawn != places[0]].min() == 1
    assert weight[drawn == places[0]][0] == pytest.approx(1 / (len(places) - 1))


@pytest.mark.parametrize("cut_off", [False, True])
def test_truncation_is_worth_what_may_follow_and_termination_nothing(cut_off, tmp_path):
    task = QLearning(
        environments=4, begin=64, replay=400, explored=400, discount=0.5, steps=1, target_every=10
    )
    setup = Setup(experiment_of(TwoStates(cut_off=cut_off, episodes=4), task), {})
    loop.train(setup, tmp_path, Silent())
    last = 1 / (1 - 0.5) if cut_off else 1.0
    value = setup.task.predict(setup.model, {"observation": tf.eye(2)})["value"].numpy()
    np.testing.assert_allclose(value, [0.5 * last, last], atol=0.05)


def test_prioritised_replay_resumes_bit_equal(tmp_path):
    task = QLearning(environments=4, begin=64, replay=200, steps=2, priority=0.6, target_every=7)
    data = KeysAndDoors(side=4, doors=0, episodes=4)
    base = experiment_of(data, task, 30)

    def trained(length, folder):
        train = dataclasses.replace(base.train, length=str(length), save_every="100")
        optim = dataclasses.replace(base.optim, schedule="constant")
        setup = Setup(dataclasses.replace(base, train=train, optim=optim), {})
        loop.train(setup, folder, Silent())
        return setup

    whole = trained(30, tmp_path / "whole")
    trained(17, tmp_path / "parts")
    resumed = trained(30, tmp_path / "parts")
    for name, value in whole.slabs.state().items():
        np.testing.assert_array_equal(value, resumed.slabs.state()[name])
    for own, other in zip(whole.model.variables, resumed.model.variables, strict=True):
        np.testing.assert_array_equal(own.numpy(), other.numpy())
