"""Q-learning: an agent learns what actions are worth, from a replay of what it did (DQN)."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, np, tf
from tfbig.core.source import Source
from tfbig.data.keys_and_doors import KeysAndDoors
from tfbig.models.q_network import QNetwork
from tfbig.nn.heads import exact_dtype
from tfbig.prep.streams import Streams, combined
from tfbig.tasks._played import Played, Returns

FORBIDDEN = -1e9  # value of an illegal action
LEAST_PRIORITY = 1e-6
SCALAR = Feature(shape=(), dtype="float32")


@dataclass(frozen=True, kw_only=True)
class QLearning(Played):
    """Deep Q-learning (Mnih et al. 2015), for discrete actions.

    With the choices that Hessel et al. 2018 combined: double (van Hasselt et al. 2016), duelling
    (of the model), returns over several steps, and prioritised replay (Schaul et al. 2016). What is
    bootstrapped from is a target network, copied every so many steps. A truncated episode is worth
    what its last state is thought to be worth, a terminated one nothing more.

    Environment steps: task.begin + train.length x task.environments x task.every.
    """

    environments: int = knob(8, "played side by side", low=1, high=65_536)
    every: int = knob(1, "steps that each is played between trainings", low=1)
    replay: int = knob(50_000, "latest steps of the game that are trained on", low=1)
    begin: int = knob(1_000, "steps of the game, at random, before the first training", low=1)
    explore: float = knob(0.05, "share of random actions in the end", low=0, high=1)
    explored: int = knob(25_000, "steps of the game over which it falls there from 1", low=1)
    discount: float = knob(0.99, "of a reward one step later", low=0, high=1)
    steps: int = knob(3, "rewards that are summed before values are bootstrapped from", low=1)
    double: bool = knob(True, "the network chooses the next action, the target network values it")
    priority: float = knob(
        0.0, "exponent of errors by which steps are replayed; 0: all alike", low=0, high=1
    )
    correction: float = knob(
        0.5, "exponent by which losses of what is replayed more often count less", low=0, high=1
    )
    target_every: int = knob(250, "trainings between copies of the target network", low=1)

    needs = frozenset({"action_values"})
    curves = ("return", "episode_length", "error", "exploration")

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(
                environments=16, replay=4_000, begin=320, explored=2_000, steps=2, target_every=50
            ),
            model=QNetwork(units=(64,)),
            data=KeysAndDoors.smallest(folder),
            train=Train(length="450", batch_size=64, evaluate_every="450", save_every="150"),
            optim=Optim(optimizer="adam", learning_rate=0.003, clip_norm=10.0),
        )

    @classmethod
    def wanted_data(cls, data):
        wanted = super().wanted_data(data)
        if not wanted and not isinstance(data, type) and data.action.values is None:
            return "a game of discrete actions"
        return wanted

    def build(self) -> keras.Model:
        """Output: the value of each action, float32 [batch, actions]."""
        body = self.model.build(self.model_spec)
        exact = exact_dtype()

        def head(x, width, name):
            return keras.layers.Dense(width, dtype=exact, name=name)(x)

        if len(body.outputs) == 1:
            values = head(body.outputs[0], self.num_actions, "values")
        else:
            state, advantages = body.outputs
            advantages = head(advantages, self.num_actions, "advantages")
            mean = keras.ops.mean(advantages, axis=-1, keepdims=True)
            values = head(state, 1, "state") + advantages - mean
        return keras.Model(body.input, values, name="q_network")

    def target(self, model) -> keras.Model:
        """The target network, which begins as the network is."""
        if "_target" not in vars(self):
            copy = keras.models.clone_model(model)
            copy.set_weights(model.get_weights())
            copy.trainable = False
            object.__setattr__(self, "_target", copy)
        return self._target

    def variables(self, model):
        return self.target(model).variables

    def after_step(self, model, step):
        copies = tf.equal(step % self.target_every, 0)
        for own, weight in zip(self.target(model).variables, model.variables, strict=True):
            own.assign(tf.where(copies, weight.value, own.value))

    def source(self, model, batch_size, seed):
        return Replay(self, model, batch_size, seed)

    def values(self, model, observation, legal, training: bool) -> tf.Tensor:
        """Of each action, float32 [batch, actions]; illegal ones are worth nothing at all."""
        values = tf.cast(model(observation, training=training), tf.float32)
        return values if legal is None else tf.where(legal > 0, values, FORBIDDEN)

    def preprocess(self, raw, training):
        ready = super().preprocess(raw, training)
        if "next_observation" in raw:
            seen = {"observation": raw["next_observation"]}
            ready["next_observation"] = super().preprocess(seen, training)["observation"]
        return ready

    def error(self, model, batch, training: bool) -> tf.Tensor:
        """What each action turned out to be worth, less what was thought, [batch]."""
        values = self.values(model, batch["observation"], batch.get("legal"), training)
        thought = tf.gather(values, batch["action"], axis=1, batch_dims=1)
        following, legal = batch["next_observation"], batch.get("next_legal")
        after = self.values(self.target(model), following, legal, False)
        chooser = self.values(model, following, legal, False) if self.double else after
        best = tf.gather(after, tf.argmax(chooser, -1), axis=1, batch_dims=1)
        worth = batch["reward"] + batch["discount"] * best
        return tf.stop_gradient(worth) - thought

    def loss(self, model, batch, training):
        """Huber's loss of the error, by the correction of what is replayed more often."""
        error = self.error(model, batch, training)
        size = tf.abs(error)
        huber = tf.where(size < 1, 0.5 * size**2, size - 0.5)
        ones = tf.ones_like(size)
        names = ("sampled_return", "environment_steps", "exploration")
        logs = {name: (batch[name], ones) for name in names}
        return {"loss": (batch["weight"] * huber, ones), "error": (size, ones), **logs}

    def predict(self, model, inputs):
        """The action thought best, and what all of them are thought to be worth."""
        values = self.values(model, inputs["observation"], inputs.get("legal"), False)
        best = tf.argmax(values, -1, tf.int32)
        return {"action": best, "values": values, "value": tf.reduce_max(values, -1)}

    def drawn(self, outputs, random):
        allowed = outputs["values"] > FORBIDDEN / 2
        at_random = random.uniform() < self.explore
        return np.where(at_random, random.choice(allowed), outputs["action"])

    @property
    def answered(self):
        return {**super().answered, "values": "number"}

    def said(self, outputs, top):
        values, names = outputs["values"], self.data.action_names
        best = [[names[i], float(values[i])] for i in np.argsort(-values, kind="stable")[:top]]
        action = int(outputs["action"])
        return {"action": action, "label": best[0][0], "top": best, "value": float(values[action])}


class Replay(Source):
    """What Q-learning's minibatches are drawn from: the latest steps of all environments."""

    KEPT = ("episode", "filled", "steps", "priorities", "drawn")

    def __init__(self, task: QLearning, model, batch_size: int, seed: int):
        self.task, self.batch_size, self.seed = task, batch_size, seed
        self.n = task.environments
        # Rows of all environments; one more than is drawn from, for what follows the last one
        self.rows = max(task.steps + 1, -(-task.replay // self.n))
        data = task.data
        following = {f"next_{name}": feature for name, feature in data.seen.items()}
        names = ("reward", "discount", "weight", "sampled_return", "environment_steps")
        self.spec = {**data.seen, **following, "action": data.action}
        self.spec |= dict.fromkeys((*names, "exploration"), SCALAR)
        self.episode = np.zeros(self.n, np.int64)
        self.games = data.environments(self._seeds())
        self.returns = Returns(self.n)
        self.filled, self.steps = np.zeros((), np.int64), np.zeros((), np.int64)
        self.replay = {
            name: np.zeros((self.rows, self.n, *feature.shape), feature.dtype)
            for name, feature in {**data.seen, **following, "action": data.action}.items()
        }
        for name, dtype in (("reward", "float32"), ("terminated", "bool"), ("ended", "bool")):
            self.replay[name] = np.zeros((self.rows, self.n), dtype)
        self.priorities = np.zeros(self.rows * self.n)
        self.drawn = np.zeros(0, np.int64)  # what was trained on last
        self._compile(model)

    def _seeds(self) -> np.ndarray:
        return self.task.data.training_seeds(self.seed, np.arange(self.n), self.episode)

    def _compile(self, model) -> None:
        """The policy as one compiled call for all environments, and the errors of a batch."""
        task = self.task
        slow_in_xla = any("Conv" in type(layer).__name__ for layer in model.layers)
        compiled = tf.function(jit_compile=not slow_in_xla or None, autograph=False)

        @compiled
        def act(seen):
            return task.predict(model, task.preprocess(seen, training=False))

        @compiled
        def error(batch):
            return task.error(model, task.preprocess(batch, training=False), False)

        self.act, self.error = act, error

    @property
    def exploration(self) -> float:
        """The share of random actions now."""
        if self.steps < self.task.begin:
            return 1.0
        share = min(1.0, int(self.steps) / self.task.explored)
        return 1 - share * (1 - self.task.explore)

    def batch(self, number):
        task = self.task
        self._learn_priorities()
        while self.steps < task.begin or self.filled < task.steps:
            self._step()
        for _ in range(task.every):
            self._step()
        random = np.random.default_rng([self.seed, 1, number])
        places, weight = self._choose(random)
        self.drawn = places
        batch = self._transitions(places)
        count = np.ones(len(places), np.float32)
        return {
            **batch,
            "weight": weight.astype(np.float32),
            "sampled_return": count * self.returns.mean,
            "environment_steps": count * int(self.steps),
            "exploration": count * self.exploration,
        }

    def _step(self) -> None:
        """One step of all environments, kept in the replay's oldest row."""
        random = Streams(combined(self.seed, int(self.steps), np.arange(self.n)))
        seen = self.games.observe()
        outputs = {name: value.numpy() for name, value in self.act(seen).items()}
        at_random = random.uniform() < self.exploration
        allowed = outputs["values"] > FORBIDDEN / 2
        action = np.where(at_random, random.choice(allowed), outputs["action"]).astype(np.int32)
        reward, terminated, truncated = self.games.step(action)
        ended = terminated | truncated
        behind = {f"next_{name}": value for name, value in self.games.observe().items()}
        own = {"action": action, "reward": reward, "terminated": terminated, "ended": ended}
        row = int(self.filled) % self.rows
        for name, value in {**seen, **behind, **own}.items():
            self.replay[name][row] = value
        top = self.priorities.max() if self.filled else 1.0
        self.priorities.reshape(self.rows, self.n)[row] = top  # what is new is replayed soon
        self.returns.add(reward, ended)
        self.filled, self.steps = self.filled + 1, self.steps + self.n
        if ended.any():
            self.episode = self.episode + ended
            self.games.restart(ended, self._seeds())

    def _ages(self) -> np.ndarray:
        """Rows that may be drawn, the oldest first: those that have all their steps behind them."""
        count = min(int(self.filled), self.rows) - (self.task.steps - 1)
        first = max(0, int(self.filled) - self.rows)
        return (first + np.arange(max(1, count))) % self.rows

    def _choose(self, random) -> tuple[np.ndarray, np.ndarray]:
        """Places to be trained on, int64 [batch], and how much each counts, at most 1."""
        ages = self._ages()
        places = (ages[:, None] * self.n + np.arange(self.n)).ravel()
        if not self.task.priority:
            return random.choice(places, self.batch_size), np.ones(self.batch_size)
        total = np.cumsum(self.priorities[places] ** self.task.priority)
        chosen = np.searchsorted(total, random.random(self.batch_size) * total[-1], side="right")
        places = places[np.minimum(chosen, len(places) - 1)]
        chance = self.priorities[places] ** self.task.priority / total[-1]
        weight = (len(total) * chance) ** -self.task.correction
        return places, weight / weight.max()

    def _transitions(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """From the state at each place to the one some steps later, or the last of its episode."""
        task, (row, column) = self.task, divmod(places, self.n)
        reward, factor = np.zeros(len(places)), np.ones(len(places))
        going, last = np.ones(len(places), bool), row.copy()
        for _ in range(task.steps):
            here = np.where(going, row, last)
            reward += np.where(going, factor * self.replay["reward"][here, column], 0.0)
            factor = np.where(going, factor * task.discount, factor)
            last = here
            going &= ~self.replay["ended"][here, column]
            row = (row + 1) % self.rows
        first = divmod(places, self.n)
        names = [name for name in self.replay if name in self.task.data.seen or name == "action"]
        batch = {name: self.replay[name][first] for name in names}
        batch |= {
            name: value[last, column]
            for name, value in self.replay.items()
            if name.startswith("next_")
        }
        stops = self.replay["terminated"][last, column]
        discount = np.where(stops, 0.0, factor)
        return {**batch, "reward": reward.astype("float32"), "discount": discount.astype("float32")}

    def _learn_priorities(self) -> None:
        """By the errors that are left of what was trained on last."""
        if not (self.task.priority and len(self.drawn)):
            return
        error = self.error(self._transitions(self.drawn)).numpy()
        self.priorities[self.drawn] = np.abs(error) + LEAST_PRIORITY

    def state(self):
        games = {f"games/{name}": value for name, value in self.games.state().items()}
        count = min(int(self.filled), self.rows)
        replay = {f"replay/{name}": value[:count] for name, value in self.replay.items()}
        own = {name: np.asarray(getattr(self, name)) for name in self.KEPT}
        return {**games, **replay, **own, **self.returns.state()}

    def restore(self, state):
        games = {n.partition("/")[2]: v for n, v in state.items() if n.startswith("games/")}
        self.games.restore(games)
        self.returns.restore(state)
        for name in self.KEPT:
            setattr(self, name, np.array(state[name]))
        for name, value in self.replay.items():
            kept = state[f"replay/{name}"]
            value[: len(kept)] = kept
