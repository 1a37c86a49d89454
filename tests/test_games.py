"""Games keep their rules, their state and their seeds; agents value what they lead to."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from training import Silent

import tfbig
from tfbig.core import registry
from tfbig.core.environments import Environments
from tfbig.core.errors import PackageNeeded, UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.run import Run
from tfbig.data import gymnasium as gymnasium_data
from tfbig.data._games import EVALUATED, Game
from tfbig.data.bricks import Bricks
from tfbig.data.connect_four import HEIGHT, WIDTH, ConnectFour, has_four
from tfbig.data.keys_and_doors import KeysAndDoors
from tfbig.deploy import playing
from tfbig.deploy.bench import compared
from tfbig.engine import job, loop
from tfbig.engine.setup import Setup
from tfbig.models.actor_critic import ActorCritic
from tfbig.nn.returns import advantages
from tfbig.prep.streams import Streams, combined
from tfbig.tasks._played import interquartile_mean
from tfbig.tasks.policy_gradient import PolicyGradient

GAMES = [
    name for name in registry.describe("data") if issubclass(registry.component("data", name), Game)
]


@pytest.fixture(params=GAMES)
def game(request, tmp_path):
    game = registry.component("data", request.param).smallest(tmp_path)
    try:
        game.check()
    except PackageNeeded as error:
        pytest.skip(str(error))
    return game


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the smallest policy gradient."""
    experiment = PolicyGradient.smallest(tmp_path_factory.mktemp("game"))
    run = Run.create(tmp_path_factory.mktemp("runs") / "keys", experiment)
    job.train(run, Silent())
    return run


def act(game, seen, random):
    """Random actions, legal where some are not."""
    n = len(seen["observation"])
    if game.action.values is None:
        return np.stack([random.uniform() for _ in range(game.action.shape[0])], 1)
    return random.choice(
        seen["legal"] > 0 if "legal" in seen else np.ones((n, game.action.values), bool)
    )


def walk(game, games, random, count):
    """Steps with restarts: everything that was seen."""
    history = []
    for step in range(count):
        seen = games.observe()
        outcome = games.step(act(game, seen, random))
        ended = outcome[1] | outcome[2]
        history.append(
            {**seen, **dict(zip(("reward", "terminated", "truncated"), outcome, strict=True))}
        )
        games.restart(
            ended, game.training_seeds(0, np.arange(len(ended)), np.full(len(ended), step))
        )
    return history


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])


def test_a_game_goes_on_from_its_state(game):
    seeds = game.seeds("train")[:4]
    games, random = game.environments(seeds), Streams(seeds)
    walk(game, games, random, 30)
    state = {name: np.array(value) for name, value in games.state().items()}
    assert all(value.dtype.kind in "biuf" for value in state.values())
    stream = random.state.copy()
    went_on = walk(game, games, random, 40)
    other = game.environments(game.seeds("test")[:4])
    other.restore(state)
    random.state = stream
    assert_same(went_on, walk(game, other, random, 40))
    assert any(step["reward"].any() or step["terminated"].any() for step in went_on)


def test_an_episode_depends_on_its_seed_alone(game):
    seeds = game.seeds("test")[:3]
    together, alone = game.environments(seeds), game.environments(seeds[1:2])
    random, own = Streams(seeds), Streams(seeds[1:2])
    for _ in range(25):
        seen, one = together.observe(), alone.observe()
        for name, feature in game.seen.items():
            assert seen[name].dtype == feature.dtype and seen[name].shape == (3, *feature.shape)
            np.testing.assert_array_equal(seen[name][1:2], one[name])
        outcome = together.step(act(game, seen, random)), alone.step(act(game, one, own))
        for each, single in zip(*outcome, strict=True):
            assert each[1] == single[0]
        if outcome[1][1] | outcome[1][2]:
            return


def test_seeds_of_training_and_splits_are_apart():
    game = Bricks()
    splits = [set(game.seeds(split).tolist()) for split in ("train", "validation", "test")]
    assert all(len(split) == 100 and max(split) < EVALUATED for split in splits)
    assert not splits[0] & splits[1] and not splits[1] & splits[2]
    training = game.training_seeds(0, np.arange(50), np.arange(50))
    assert training.min() >= EVALUATED and len(set(training.tolist())) == 50
    assert (training != game.training_seeds(1, np.arange(50), np.arange(50))).all()


def test_streams():
    streams = Streams(np.arange(2000))
    draws = np.stack([streams.uniform() for _ in range(50)])
    assert draws.min() >= 0 and draws.max() < 1 and abs(draws.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 0.08
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.5
    # SplitMix64's published first output from state 0
    streams.state = np.zeros(1, np.uint64)
    assert int(streams.uniform()[0] * 2**53) == 0xE220A8397B1DCDAF >> 11
    assert combined(1, 2) != combined(2, 1)
    rows = np.array([[False, True, False, True]] * 3000)
    chosen = Streams(np.arange(3000)).choice(rows)
    assert set(chosen.tolist()) == {1, 3} and abs((chosen == 1).mean() - 0.5) < 0.05


def test_the_ball_bounces_off_bricks_walls_and_the_paddle():
    game = dataclasses.replace(Bricks(), sticky=0.0)
    games = game.environments(np.array([3]))
    games.row[:], games.column[:], games.down[:], games.right[:], games.paddle[:] = 4, 0, -1, -1, 4
    reward, terminated, _ = games.step(np.array([0]))
    assert reward[0] == 1 and not games.bricks[0, 3, 0] and games.bricks.sum() == 29
    assert (games.row[0], games.column[0], games.down[0], games.right[0]) == (4, 0, 1, 1)
    for paddle, last, lost in ((4, 4, False), (5, 5, False), (7, 4, True)):
        games.row[:], games.column[:], games.down[:], games.right[:] = 8, 4, 1, 1
        games.paddle[:] = paddle
        _, terminated, _ = games.step(np.array([0]))
        assert terminated[0] == lost, (paddle, last)
        if not lost:  # above it straight back, at its edge sideways too
            assert games.down[0] == -1 and games.right[0] == (1 if paddle == 4 else -1)
    # The last brick is gone: a new wall stands when the ball is down again
    games.bricks[:] = False
    games.row[:], games.column[:], games.down[:], games.right[:], games.paddle[:] = 8, 4, 1, 1, 4
    games.step(np.array([0]))
    assert games.bricks.sum() == 30


def test_a_sticky_action_is_the_last_one():
    games = dataclasses.replace(Bricks(), sticky=1.0).environments(np.arange(5))
    for _ in range(3):
        games.step(np.full(5, 1))
    assert (games.paddle == 4).all()
    games = dataclasses.replace(Bricks(), sticky=0.25).environments(np.arange(4000))
    games.step(np.full(4000, 1))
    assert abs((games.paddle == 4).mean() - 0.25) < 0.03


def test_a_door_needs_a_key():
    game = KeysAndDoors()
    games = game.environments(np.arange(200))
    planes = games.observe()["observation"]
    assert (planes[..., 2].sum((1, 2)) == 1).all() and (planes[..., 3].sum((1, 2)) == 1).all()
    assert (planes[..., 4].sum((1, 2)) == 1).all() and (planes[..., 1].sum((1, 2)) == 1).all()
    # One beside a door, without a key and with one
    row, column = np.argwhere(games.doors[0])[0]
    games.place[0] = row, column - 1
    right = game.action_names.index("right")
    legal = games.observe()["legal"]
    assert not legal[0, right]
    games.step(np.full(200, right))
    assert games.place[0].tolist() == [row, column - 1] and games.doors[0].any()
    games.carried[0] = 1
    assert games.observe()["legal"][0, right]
    games.step(np.full(200, right))
    assert games.place[0].tolist() == [row, column] and not games.doors[0].any()
    assert games.carried[0] == 0
    games.place[0] = np.argwhere(games.goals[0])[0] - [0, 1]
    if not games.walls[0, *games.place[0]]:
        reward, terminated, _ = games.step(np.full(200, right))
        assert terminated[0] and reward[0] == pytest.approx(1 - 0.9 * 3 / game.most_steps)


def test_four_in_a_row():
    """As looking at every cell in every direction."""
    boards = np.random.default_rng(0).random((300, HEIGHT, WIDTH)) < 0.35

    def found(board):
        padded = np.pad(board, ((0, 3), (3, 3)))
        return any(
            all(padded[row + i * down, 3 + column + i * right] for i in range(4))
            for row in range(HEIGHT)
            for column in range(WIDTH)
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1))
        )

    expected = [found(board) for board in boards]
    assert has_four(boards).tolist() == expected and 0 < sum(expected) < 300


def test_the_opponent_wins_and_blocks_where_it_can():
    games = ConnectFour().environments(np.arange(8))
    games.stones[:] = False
    games.stones[:, 0, 5, :3] = True  # three of the agent's, open on one side
    assert games._answer().tolist() == [3] * 8
    games.stones[:, 1, 2:5, 6] = games.stones[:, 0, 5, 6] = True
    assert games._answer().tolist() == [6] * 8  # its own win comes first
    reward, terminated, _ = games.step(np.full(8, 3))
    assert (reward == 1).all() and terminated.all()
    games.restart(np.ones(8, bool), np.arange(8))
    games.stones[:, 0, ::2, 0] = games.stones[:, 1, 1::2, 0] = True
    assert not games.observe()["legal"][:, 0].any()
    with pytest.raises(UserError, match="a column from 0 to 6 that is not full. Received: 0"):
        games.step(np.zeros(8, int))


def test_wrong_settings_of_games():
    assert dict(KeysAndDoors(side=7, doors=2).problems())["doors"].startswith("expected at most 1")
    with pytest.raises(UserError, match="expected one of .*bricks.*Received: 'brick'.*bricks"):
        tfbig.recipe("bricks_ppo", "data=brick")


def test_a_missing_extra_is_named(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(gymnasium_data.importlib, "import_module", refuse)
    gymnasium_data._registered.cache_clear()
    with pytest.raises(UserError, match="needs gymnasium, not installed. Run pip install"):
        gymnasium_data.Gymnasium(environment="CartPole-v1").check()
    gymnasium_data._registered.cache_clear()


def test_an_unknown_environment_is_named():
    pytest.importorskip("gymnasium")
    with pytest.raises(UserError, match="Received: 'Cartpole-v1'. Did you mean CartPole-v1"):
        gymnasium_data.Gymnasium(environment="Cartpole-v1").check()


def test_generalised_advantages_by_hand():
    reward = np.array([[1.0], [0.0], [2.0]])
    ended = np.array([[False], [True], [False]])
    value = np.array([[0.5], [1.0], [3.0]])
    following = np.array([[1.0], [0.0], [4.0]])  # terminated after the second step
    gained = advantages(reward, ended, value, following, 0.9, 0.5)
    last = 2 + 0.9 * 4 - 3
    middle = 0 - 1
    first = 1 + 0.9 * 1 - 0.5 + 0.45 * middle
    np.testing.assert_allclose(gained[:, 0], [first, middle, last], rtol=1e-6)


def test_the_interquartile_mean_is_of_the_middle_half():
    assert interquartile_mean(np.arange(8.0)) == 3.5
    assert interquartile_mean(np.array([0.0, 0, 1, 2, 3, 100, 5, 4])) == (1 + 2 + 3 + 4) / 4
    # Of six values, the second and the fifth count half
    expected = (0.5 * 1 + 2 + 4 + 0.5 * 8) / 3
    assert interquartile_mean(np.array([0.0, 1, 2, 4, 8, 16])) == pytest.approx(expected)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoStates(Game):
    """State 0 pays nothing and leads to state 1, which pays 1 and ends: or is only cut off."""

    cut_off: bool = False
    most_steps = 2
    action_names = ("on", "on as well")
    observation = Feature(shape=(2,), dtype="float32")

    def environments(self, seeds):
        return _TwoStates(self, len(seeds))


class _TwoStates(Environments):
    def __init__(self, data, n):
        self.data, self.place = data, np.zeros(n, np.int64)

    def restart(self, which, seeds):
        self.place = np.where(which, 0, self.place)

    def observe(self):
        return {"observation": np.eye(2, dtype=np.float32)[np.minimum(self.place, 1)]}

    def step(self, action):
        last = self.place == 1
        self.place = np.minimum(self.place + 1, 1)
        cut = np.full_like(last, self.data.cut_off)
        return last.astype(np.float32), last & ~cut, last & cut

    def frame(self, place):
        return None

    def state(self):
        return {"place": self.place}

    def restore(self, state):
        self.place = state["place"]


@pytest.mark.parametrize("cut_off", [False, True])
def test_truncation_is_worth_what_may_follow_and_termination_nothing(cut_off, tmp_path):
    """Cut off in state 1, which goes on for ever, it is worth 1 / (1 - discount); ended, 1."""
    experiment = Experiment(
        name="two_states",
        task=PolicyGradient(environments=4, horizon=32, discount=0.5, clip_value=False),
        model=ActorCritic(units=(16,)),
        data=TwoStates(cut_off=cut_off, episodes=4),
        train=Train(
            length="300", batch_size=64, evaluate_every="300", save_every="300", final_split="none"
        ),
        optim=Optim(optimizer="adam", learning_rate=0.01, schedule="linear", epsilon=1e-5),
    )
    setup = Setup(experiment, {})
    loop.train(setup, tmp_path, Silent())
    states = {"observation": tf.eye(2)}
    last = 1 / (1 - 0.5) if cut_off else 1.0
    value = setup.task.predict(setup.model, states)["value"].numpy()
    np.testing.assert_allclose(value, [0.5 * last, last], atol=0.03)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aim(Game):
    """One step: the closer a continuous action is to (1, -1), the better."""

    most_steps = 1
    observation = Feature(shape=(1,), dtype="float32")
    action = Feature(shape=(2,), dtype="float32")

    def environments(self, seeds):
        return _Aim(self, len(seeds))


class _Aim(_TwoStates):
    def observe(self):
        return {"observation": np.ones((len(self.place), 1), np.float32)}

    def step(self, action):
        ended = np.ones(len(action), bool)
        return -((action - [1, -1]) ** 2).sum(1).astype(np.float32), ended, ~ended


def test_continuous_actions_are_learnt(tmp_path):
    experiment = Experiment(
        name="aim",
        task=PolicyGradient(environments=64, horizon=4, scale_rewards=True, entropy_weight=0.0),
        model=ActorCritic(units=(16,)),
        data=Aim(episodes=8),
        train=Train(
            length="320", batch_size=64, evaluate_every="320", save_every="320", final_split="none"
        ),
        optim=Optim(optimizer="adam", learning_rate=0.02, schedule="linear", epsilon=1e-5),
    )
    setup = Setup(experiment, {})
    before = setup.evaluate("test").metrics["sampled_return"]["value"]
    loop.train(setup, tmp_path, Silent())
    outputs = setup.task.predict(setup.model, {"observation": tf.ones((1, 1))})
    np.testing.assert_allclose(outputs["action"][0], [1, -1], atol=0.1)
    assert (outputs["deviation"].numpy() < 0.5).all()
    assert setup.evaluate("test").metrics["sampled_return"]["value"] > before + 1


def test_an_artefact_is_judged_by_the_episodes_it_plays(trained, tmp_path):
    """Through what users send it, and as ONNX, in processes without this package."""
    record = tfbig.export(trained, tmp_path / "keys", formats=("onnx",))
    evaluated = trained.read_json("metrics.json")["test"]["metrics"]
    assert set(record["verification"]) == {"savedmodel", "savedmodel, tensors", "onnx"}
    for entry in record["verification"].values():
        for name in ("return", "sampled_return", "iqm_return"):
            value = entry["metrics"][name]
            assert value["value"] == pytest.approx(evaluated[name]["value"], rel=1e-5)
            assert value["changed"] == 0
    served = tf.saved_model.load(record["path"]).signatures["serving_default"]
    seen = PolicyGradient.smallest(tmp_path).data.examples("test", np.arange(3))
    answers = served(observation=seen["observation"], legal=seen["legal"])
    probabilities = answers["probabilities"].numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (probabilities[seen["legal"] == 0] == 0).all()
    np.testing.assert_allclose(answers["chances"], -np.sort(-probabilities), rtol=1e-6)
    assert (answers["actions"].numpy()[:, 0] == answers["label"].numpy()).all()
    assert answers["label"].numpy()[0].decode() in ("up", "down", "left", "right")


def test_another_player_is_noticed(trained):
    """One that goes up instead of down plays other episodes."""
    model = tfbig.load(trained)
    raw = model.task.data.examples("test", np.arange(12))

    def act(observations):
        return model.predict(observations)

    def upside_down(observations):
        return {
            **(said := act(observations)),
            "action": np.where(said["action"] == 1, 0, said["action"]),
        }

    own, other = (playing.measured(model.task, play, raw) for play in (act, upside_down))
    assert compared(own["sums"], own["sums"])["return"]["changed"] == 0
    assert compared(other["sums"], own["sums"])["return"]["changed"] > 3


def test_predictions_for_observations(trained, tmp_path):
    data = PolicyGradient.smallest(tmp_path).data
    seen = data.examples("test", np.arange(2))["observation"]
    np.save(tmp_path / "seen.npy", seen)
    results = tfbig.predict(trained, [str(tmp_path / "seen.npy")], top=4)
    for i, result in enumerate(results):
        legal = {data.action_names[a] for a in np.flatnonzero(data.legal(seen)[i])}
        assert result["label"] in legal and len(result["top"]) == 4
        assert {name for name, chance in result["top"] if chance > 0} <= legal
    np.save(tmp_path / "other.npy", seen[:, :3])
    with pytest.raises(UserError, match=r"other.npy: expected uint8 \[4, 4, 6\] or .*Received"):
        tfbig.predict(trained, [str(tmp_path / "other.npy")])
    seen[..., 0] = 1  # walls all over
    np.save(tmp_path / "walls.npy", seen)
    with pytest.raises(UserError, match="no action is legal there"):
        tfbig.predict(trained, [str(tmp_path / "walls.npy")])


def test_the_report_shows_the_best_and_the_worst_episodes(trained):
    panels = [panel for panel in trained.read_json("panels.json") if panel["section"] == "test"]
    histogram, films = panels
    assert sum(histogram["values"]) == 12 or sum(histogram["values"]) == 24
    assert len(films["items"]) == 4 and films["items"][0]["caption"].startswith("return 0.9")
