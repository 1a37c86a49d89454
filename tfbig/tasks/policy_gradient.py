"""Policy gradients: an agent learns to act from the rewards of what it does (PPO)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfbig.core.component import knob
from tfbig.core.errors import UserError
from tfbig.core.experiment import Experiment, Optim, Train
from tfbig.core.features import Feature
from tfbig.core.lazy import keras, np, tf
from tfbig.core.source import Source
from tfbig.data.keys_and_doors import KeysAndDoors
from tfbig.models.actor_critic import ActorCritic
from tfbig.nn.heads import exact_dtype
from tfbig.nn.returns import advantages
from tfbig.tasks._played import Played, Returns

FORBIDDEN = -1e9  # logit of an illegal action
SCALAR = Feature(shape=(), dtype="float32")
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class PolicyGradient(Played):
    """Proximal policy optimisation, PPO (Schulman et al. 2017), for discrete or continuous actions.

    Several environments are played for some steps each by the policy of the moment, and what was
    seen is trained on for some epochs, in minibatches of train.batch_size. With the details that
    Huang et al. 2022 ("The 37 implementation details of PPO") found to matter: generalised
    advantages, normalised in each minibatch, orthogonal weights, Adam with an epsilon of 1e-5, a
    rate that falls to 0, gradients clipped to a norm of 0.5. A truncated episode is worth what its
    last state is thought to be worth, a terminated one nothing more. Environments are restarted
    between steps, so there is no step of an automatic reset to be left out.

    Environment steps: train.length x train.batch_size / task.epochs.
    """

    environments: int = knob(8, "played side by side", low=1, high=65_536)
    horizon: int = knob(128, "steps that each is played between trainings", low=1)
    epochs: int = knob(4, "over what was played, until it is played anew", low=1)
    discount: float = knob(0.99, "of a reward one step later", low=0, high=1)
    trace: float = knob(0.95, "lambda of generalised advantages", low=0, high=1)
    clip: float = knob(0.2, "largest change of an action's probability that counts", above=0)
    clip_value: bool = knob(True, "clip the value's change too, as the first implementation did")
    value_weight: float = knob(0.5, "of the value's loss", low=0)
    entropy_weight: float = knob(0.01, "of the policy's entropy, which is rewarded", low=0)
    normalize: bool = knob(True, "advantages to mean 0 and deviation 1 in each minibatch")
    scale_rewards: bool = knob(
        False, "divide rewards by the deviation of their discounted sums so far, for training"
    )

    needs = frozenset({"actor", "critic"})
    metric_units = {"clipped": "%"}
    curves = ("return", "episode_length", "entropy", "value_loss", "divergence")

    @classmethod
    def smallest(cls, folder):
        return Experiment(
            name="smallest",
            task=cls(environments=32, horizon=16),
            model=ActorCritic(units=(64,)),
            data=KeysAndDoors.smallest(folder),
            train=Train(length="330", batch_size=128, evaluate_every="330", save_every="110"),
            optim=Optim(optimizer="adam", learning_rate=0.005, clip_norm=0.5, epsilon=1e-5),
        )

    @property
    def is_discrete(self) -> bool:
        return self.data.action.values is not None

    def build(self) -> keras.Model:
        """Outputs: logits and value; of continuous actions mean, logarithm of deviation, value."""
        body = self.model.build(self.model_spec)
        actor, critic = body.outputs
        exact = exact_dtype()

        def head(width, gain, name):
            weights = keras.initializers.Orthogonal(gain)
            return keras.layers.Dense(width, dtype=exact, kernel_initializer=weights, name=name)

        value = head(1, 1.0, "value")(critic)
        if self.is_discrete:
            outputs = [head(self.num_actions, 0.01, "policy")(actor), value]
        else:
            mean = head(self.data.action.shape[0], 0.01, "policy")(actor)
            # A deviation that is the same in all states: the shift of a layer that sees zeros
            nothing = keras.layers.Rescaling(0.0, dtype=exact, name="nothing")(mean)
            deviation = keras.layers.LayerNormalization(
                scale=False, epsilon=1.0, dtype=exact, name="log_deviation"
            )
            outputs = [mean, deviation(nothing), value]
        return keras.Model(body.input, outputs, name="actor_critic")

    def source(self, model, batch_size, seed):
        return Rollouts(self, model, batch_size, seed)

    def outputs(self, model, batch, training: bool) -> dict[str, tf.Tensor]:
        """The policy's parameters and the value [batch] of model-ready observations."""
        given = [
            tf.cast(each, tf.float32) for each in model(batch["observation"], training=training)
        ]
        value = given[-1][:, 0]
        if not self.is_discrete:
            return {"mean": given[0], "log_deviation": given[1], "value": value}
        logits = given[0]
        if "legal" in batch:
            logits = tf.where(batch["legal"] > 0, logits, FORBIDDEN)
        return {"log_probability": tf.nn.log_softmax(logits), "value": value}

    def log_probability(self, outputs, action) -> tf.Tensor:
        """Of actions by the policy, [batch]."""
        if self.is_discrete:
            return tf.gather(outputs["log_probability"], action, axis=1, batch_dims=1)
        deviation = tf.exp(outputs["log_deviation"])
        distance = (action - outputs["mean"]) / deviation
        each = -0.5 * distance**2 - outputs["log_deviation"] - LOG_SQRT_2PI
        return tf.reduce_sum(each, 1)

    def entropy(self, outputs) -> tf.Tensor:
        """Of the policy in nats, [batch]."""
        if self.is_discrete:
            each = outputs["log_probability"]
            return -tf.reduce_sum(tf.exp(each) * each, 1)
        return tf.reduce_sum(outputs["log_deviation"] + 0.5 + LOG_SQRT_2PI, 1)

    def loss(self, model, batch, training):
        """The clipped objective, the value's error and the entropy, as PPO weighs them."""
        outputs = self.outputs(model, batch, training)
        change = self.log_probability(outputs, batch["action"]) - batch["log_probability"]
        ratio = tf.exp(change)
        within = tf.clip_by_value(ratio, 1 - self.clip, 1 + self.clip)
        gain = tf.minimum(ratio * batch["advantage"], within * batch["advantage"])
        value, before, target = outputs["value"], batch["value"], batch["target"]
        error = (value - target) ** 2
        if self.clip_value:
            near = before + tf.clip_by_value(value - before, -self.clip, self.clip)
            error = tf.maximum(error, (near - target) ** 2)
        entropy = self.entropy(outputs)
        total = -gain + 0.5 * self.value_weight * error - self.entropy_weight * entropy
        logs = {
            "loss": total,
            "policy_loss": -gain,
            "value_loss": 0.5 * error,
            "entropy": entropy,
            "divergence": ratio - 1 - change,
            "clipped": tf.cast(tf.abs(ratio - 1) > self.clip, tf.float32),
            "sampled_return": batch["recent_return"],
            "environment_steps": batch["environment_steps"],
        }
        ones = tf.ones_like(total)
        return {name: (value, ones) for name, value in logs.items()}

    def predict(self, model, inputs):
        """The action thought best, what the policy says of all of them, and the state's value."""
        outputs = self.outputs(model, inputs, False)
        if self.is_discrete:
            each = outputs["log_probability"]
            said = {"action": tf.argmax(each, -1, tf.int32), "probabilities": tf.exp(each)}
        else:
            deviation = tf.exp(outputs["log_deviation"])
            said = {"action": outputs["mean"], "deviation": deviation}
        return {**said, "value": outputs["value"]}

    def drawn(self, outputs, random):
        if self.is_discrete:
            total = outputs["probabilities"].cumsum(1)
            return (total > random.uniform()[:, None] * total[:, -1:]).argmax(1)
        shape = outputs["action"].shape
        pairs = np.stack([(random.uniform(), random.uniform()) for _ in range(shape[1])], -1)
        noise = np.sqrt(-2 * np.log1p(-pairs[0])) * np.cos(2 * np.pi * pairs[1])
        return outputs["action"] + outputs["deviation"] * noise

    @property
    def answered(self):
        if not self.is_discrete:
            return {"action": "number", "value": "number"}
        return {"actions": "label", "chances": "probabilities", "value": "number"}

    def said(self, outputs, top):
        value = {"value": float(outputs["value"])}
        if not self.is_discrete:
            action = outputs["action"].tolist()
            return {"action": action, "label": str(action), **value}
        chances, names = outputs["probabilities"], self.data.action_names
        best = [[names[i], float(chances[i])] for i in np.argsort(-chances, kind="stable")[:top]]
        return {"action": int(outputs["action"]), "label": best[0][0], "top": best, **value}


class Rollouts(Source):
    """What PPO's minibatches are made of: environments, played by the policy of the moment."""

    KEPT = ("episode", "discounted", "scale")

    def __init__(self, task: PolicyGradient, model, batch_size: int, seed: int):
        self.task, self.batch_size, self.seed = task, batch_size, seed
        n, steps = task.environments, task.environments * task.horizon
        if steps % batch_size:
            raise UserError(
                f"train.batch_size: expected a divisor of the {steps:,} steps between trainings"
                f" (task.environments={n} x task.horizon={task.horizon}). Received:"
                f" {batch_size}."
            )
        self.parts = steps // batch_size
        self.block = task.epochs * self.parts
        data = task.data
        names = ("log_probability", "advantage", "target", "value", "recent_return")
        scalars = dict.fromkeys((*names, "environment_steps"), SCALAR)
        self.spec = {**data.seen, "action": data.action, **scalars}
        self.episode = np.zeros(n, np.int64)
        self.games = data.environments(self._seeds())
        self.returns = Returns(n)
        self.discounted = np.zeros(n)  # sums of rewards so far
        self.scale = np.array([1e-4, 0.0, 1.0])  # count, mean, variance of discounted sums
        self.played: dict[str, np.ndarray] = {}
        self._compile(model)

    def _seeds(self) -> np.ndarray:
        """Of the episodes that stand in each place now."""
        return self.task.data.training_seeds(self.seed, np.arange(len(self.episode)), self.episode)

    def _compile(self, model) -> None:
        """The policy as one compiled call for all environments."""
        task = self.task
        slow_in_xla = any("Conv" in type(layer).__name__ for layer in model.layers)

        @tf.function(jit_compile=not slow_in_xla or None, autograph=False)
        def act(seen, noise):
            outputs = task.outputs(model, task.preprocess(seen, training=False), False)
            if task.is_discrete:  # Gumbel's trick: the largest of noisy logarithms is a draw
                action = tf.argmax(outputs["log_probability"] + noise, -1, tf.int32)
            else:
                action = outputs["mean"] + tf.exp(outputs["log_deviation"]) * noise
            return action, tf.stack([task.log_probability(outputs, action), outputs["value"]])

        self.act = act

    def batch(self, number):
        turn = number % self.block
        if turn == 0:
            self.played = self._play(number // self.block)
        epoch, part = divmod(turn, self.parts)
        order = np.random.default_rng([self.seed, 1, number // self.block, epoch]).permutation(
            self.task.environments * self.task.horizon
        )
        rows = order[part * self.batch_size : (part + 1) * self.batch_size]
        batch = {name: value[rows] for name, value in self.played.items()}
        if self.task.normalize:
            given = batch["advantage"]
            batch["advantage"] = (given - given.mean()) / (given.std() + 1e-8)
        return batch

    def _noise(self, turn: int) -> np.ndarray:
        """What actions are drawn with, float32 [horizon, n, actions]."""
        task = self.task
        random = np.random.default_rng([self.seed, 0, turn])
        if task.is_discrete:
            uniform = random.random((task.horizon, task.environments, task.num_actions))
            return -np.log(-np.log(np.clip(uniform, 1e-20, 1 - 1e-16))).astype(np.float32)
        shape = (task.horizon, task.environments, *task.data.action.shape)
        return random.standard_normal(shape).astype(np.float32)

    def _play(self, turn: int) -> dict[str, np.ndarray]:
        """The horizon's steps of all environments: name -> [horizon x environments, ...]."""
        task, games = self.task, self.games
        steps: dict[str, list] = {}
        noise = self._noise(turn)
        seen = games.observe()
        for t in range(task.horizon):
            action, (log_probability, value) = (part.numpy() for part in self.act(seen, noise[t]))
            reward, terminated, truncated = games.step(action)
            ended = terminated | truncated
            behind = games.observe()
            # Behind an end another episode begins, so what the last state is worth is asked now
            last_value = np.zeros_like(value)
            if (truncated & ~terminated).any():
                last_value = np.where(terminated, 0.0, self._value(behind, noise[t]))
            kept = {**seen, "action": action, "log_probability": log_probability, "value": value}
            own = {"reward": self._scaled(reward, ended), "ended": ended, "last": last_value}
            for name, array in {**kept, **own}.items():
                steps.setdefault(name, []).append(array)
            if ended.any():
                self.episode = self.episode + ended
                games.restart(ended, self._seeds())
                behind = games.observe()
            seen = behind
        arrays = {name: np.stack(values) for name, values in steps.items()}
        reward, ended, last = (arrays.pop(name) for name in ("reward", "ended", "last"))
        value = arrays["value"]
        following = np.concatenate([value[1:], self._value(seen, noise[-1])[None]])
        following = np.where(ended, last, following)
        gained = advantages(reward, ended, value, following, task.discount, task.trace)
        arrays |= {"advantage": gained, "target": gained + value}
        played = {n: array.reshape(-1, *array.shape[2:]) for n, array in arrays.items()}
        count = len(played["value"])
        played["recent_return"] = np.full(count, self.returns.mean, np.float32)
        played["environment_steps"] = np.full(count, (turn + 1) * count, np.float32)
        return played

    def _value(self, seen, noise) -> np.ndarray:
        """What states are thought to be worth, float32 [n]."""
        return self.act(seen, noise)[1].numpy()[1]

    def _scaled(self, reward: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Rewards as they are trained on; sums of them go on, or end with their episodes."""
        self.returns.add(reward, ended)
        self.discounted = self.discounted * self.task.discount + reward
        if self.task.scale_rewards:
            self._observe(self.discounted)
            reward = (reward / np.sqrt(self.scale[2] + 1e-8)).astype(np.float32)
        self.discounted = self.discounted * ~ended
        return reward

    def _observe(self, values: np.ndarray) -> None:
        """Count, mean and variance of all values so far (Chan et al. 1979)."""
        count, mean, variance = self.scale
        total, gap = count + len(values), values.mean() - mean
        squares = variance * count + values.var() * len(values)
        squares += gap**2 * count * len(values) / total
        self.scale = np.array([total, mean + gap * len(values) / total, squares / total])

    def state(self):
        games = {f"games/{name}": value for name, value in self.games.state().items()}
        own = {name: getattr(self, name) for name in self.KEPT}
        return {**games, **own, **self.returns.state()}

    def restore(self, state):
        games = {n.partition("/")[2]: v for n, v in state.items() if n.startswith("games/")}
        self.games.restore(games)
        self.returns.restore(state)
        for name in self.KEPT:
            setattr(self, name, state[name])
