"""What tasks share whose agents are judged by the episodes they play."""

from __future__ import annotations

from dataclasses import dataclass

from tfbig.core.component import Component, knob
from tfbig.core.contracts import Task
from tfbig.core.errors import UserError
from tfbig.core.features import Feature
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Media, Serving
from tfbig.media.state import State
from tfbig.media.video import Video
from tfbig.prep.streams import Streams, combined

BYTE = 255.0
FRAMES = 100  # of a film in a report, at most
RECENT = 100  # episodes of training whose mean return is logged
SHOWN = 2  # best episodes in a report, and worst ones


@dataclass(frozen=True, kw_only=True)
class Top(Component):
    """How actions are asked for."""

    top: int = knob(1, "actions for each observation, the most probable first", low=1)


@dataclass(frozen=True, kw_only=True)
class Played(Task):
    """A task whose agent is judged by its return: the sum of the rewards of an episode.

    Each episode of a split is played twice: with the action that is thought best, and with actions
    drawn as in training. A subclass says how actions are drawn: `drawn`.
    """

    takes = frozenset({"game"})
    feeds = frozenset({"observation"})
    plays = True
    preprocess_on = "device"
    primary = ("sampled_return", "max")
    asked_with = "OBSERVATION"
    curves = ("return", "episode_length")
    request = Top

    @property
    def num_actions(self) -> int:
        return self.data.action.values

    def preprocess(self, raw, training):
        """Observations to float32, bytes of pictures to 0 ... 1; everything else as it is."""
        observation = tf.cast(raw["observation"], tf.float32)
        if self.data.observation.unit.startswith("intensity"):
            observation /= BYTE
        others = {n: v for n, v in raw.items() if n not in ("observation", "seed", "key")}
        return {"observation": observation, **others}

    @property
    def model_spec(self) -> dict[str, Feature]:
        """What the model is built on."""
        return {"observation": Feature(shape=self.data.observation.shape, dtype="float32")}

    def drawn(self, outputs: dict[str, np.ndarray], random: Streams) -> np.ndarray:
        """Actions of `predict`'s outputs by chance, as in training: [n, ...]."""
        raise NotImplementedError

    def play(self, act, examples):
        """Each episode to its end, twice; what is done the first time is kept."""
        seeds = examples["seed"]
        n = len(seeds)
        games = self.data.environments(np.concatenate([seeds, seeds]))
        random = Streams(combined(1, np.concatenate([seeds, seeds])))
        action = self.data.action
        kept = np.zeros((n, self.data.most_steps, *action.shape), action.dtype)
        returns, steps, going = np.zeros(2 * n), np.zeros(2 * n, np.int32), np.ones(2 * n, bool)
        for step in range(self.data.most_steps):
            outputs = act({**games.observe(), "seed": np.concatenate([seeds, seeds])})
            drawn = self.drawn(outputs, random)
            first = np.arange(2 * n).reshape(-1, *(1 for _ in action.shape)) < n
            chosen = np.where(first, outputs["action"], drawn).astype(action.dtype)
            kept[going[:n], step] = chosen[:n][going[:n]]
            reward, terminated, truncated = games.step(chosen)
            returns += np.where(going, reward, 0.0)
            steps += going
            going &= ~(terminated | truncated)
            if not going.any():
                break
        return {
            "return": returns[:n].astype(np.float32),
            "sampled_return": returns[n:].astype(np.float32),
            "length": steps[:n],
            "actions": kept,
        }

    def metrics(self, outputs, batch):
        """Mean return of the likeliest and of drawn actions; steps of an episode of the first."""
        ones = tf.ones_like(outputs["return"])
        names = {"return": "return", "sampled_return": "sampled_return", "episode_length": "length"}
        return {own: (tf.cast(outputs[name], tf.float32), ones) for own, name in names.items()}

    def records(self, outputs, batch):
        return {name: outputs[name] for name in ("return", "sampled_return", "length", "actions")}

    def examine(self, records):
        return {name: records[name] for name in ("return", "sampled_return")}

    def score(self, statistics):
        """Interquartile means, as `rliable` takes them: of the middle half of the episodes."""
        return {f"iqm_{name}": interquartile_mean(value) for name, value in statistics.items()}

    def measured_by(self, options):
        episodes = f"{self.data.episodes} episodes, each cut off after {self.data.most_steps} steps"
        return {
            "return": f"mean of {episodes}; the action thought best",
            "sampled_return": f"mean of {episodes}; actions drawn as in training",
        }

    @property
    def state(self) -> State:
        """What observations are given as."""
        observation = self.data.observation
        return State(shape=observation.shape, dtype=observation.dtype)

    @property
    def answered(self) -> dict[str, str]:
        """Answers that people read, and their kinds; see `core.serving.KINDS`."""
        named = {"label": "label"} if self.data.action_names else {}
        return {**named, "value": "number"}

    def answer(self, outputs):
        """What `predict` gives, the action's name, and all names, the likeliest first."""
        if not self.data.action_names:
            return outputs
        names = tf.constant(self.data.action_names)
        answer = {**outputs, "label": tf.gather(names, outputs["action"])}
        if "probabilities" in outputs:
            chances, index = tf.math.top_k(outputs["probabilities"], self.num_actions)
            answer |= {"actions": tf.gather(names, index), "chances": chances}
        return answer

    def serving(self, model, options):
        """Observations in, and which actions are legal where some are not; action, value out."""
        states = {"observation": self.state}
        if self.data.has_legal:
            states["legal"] = State(shape=(self.num_actions,), dtype="uint8", low=0, high=1)
        forms = {name: state.form() for name, state in states.items()}
        forms["observation"]["game"] = self.data.rules
        if "legal" in forms:
            forms["legal"]["legal_of"] = "observation"
        return Serving(
            signature={name: state.served(name) for name, state in states.items()},
            decode=lambda served: {n: state.decode(served[n]) for n, state in states.items()},
            encode=lambda raw: {n: state.encode(raw[n]) for n, state in states.items()},
            answer=self.answer,
            grade=self.metrics,
            media=Media(
                takes=dict.fromkeys(states, "state"),
                gives=self.answered,
                forms=forms,
            ),
            remarks=(
                f"The return is the {self.measured_by(None)['return']}.",
                "Actions, in the order of their numbers: "
                + (", ".join(self.data.action_names) or "continuous")
                + ".",
            ),
        )

    def check_inputs(self, inputs):
        State.check(inputs)

    def respond(self, trained, inputs, request, write):
        """Actions for observations: [{"input", "action", "value", ...}]."""
        taken = self.state.take(inputs)
        raw = {"observation": taken.values}
        if self.data.has_legal:
            raw["legal"] = self.data.legal(taken.values)
            if not raw["legal"].any(1).all():
                place = taken.names[int(np.argmin(raw["legal"].any(1)))]
                raise UserError(f"{place}: no action is legal there: the game is over.")
        outputs = trained.predict(raw)
        results = []
        for i, name in enumerate(taken.names):
            said = self.said({key: value[i] for key, value in outputs.items()}, request.top)
            results.append({"input": name, **said})
            write(f"{name}: {said['label']}, value {said['value']:.4g}\n")
        return taken.answered(results)

    def said(self, outputs: dict[str, np.ndarray], top: int) -> dict:
        """The answer for one observation as JSON values, "label" and "value" among them."""
        raise NotImplementedError

    def panels(self, split, positions, records):
        """Returns and lengths of episodes, and films of the best and the worst."""
        order = np.argsort(records["return"], kind="stable")
        counts, edges = np.histogram(records["return"], bins=min(12, max(1, len(order) // 4)))
        labels = [f"{low:.4g} to {high:.4g}" for low, high in zip(edges, edges[1:], strict=False)]
        histogram = {
            "kind": "bars",
            "title": "Returns of episodes, the action thought best",
            "labels": labels,
            "values": counts.tolist(),
            "x_label": "episodes",
        }
        shown = [*order[::-1][:SHOWN], *order[:SHOWN]] if len(order) > 2 * SHOWN else list(order)
        films = [self._film(split, int(positions[i]), records, int(i)) for i in shown]
        captions = [
            f"return {records['return'][i]:.4g} in {records['length'][i]:,} steps" for i in shown
        ]
        if any(film is None for film in films):
            return [histogram]
        shape = films[0].shape[1:]
        video = Video(frames=FRAMES, shape=shape)
        title = "Best and worst episodes"
        return [histogram, video.panel(title, films, captions)]

    def _film(self, split: str, position: int, records, place: int) -> np.ndarray | None:
        """An episode played again, uint8 [frames, height, width, 3]; None without pictures."""
        games = self.data.environments(self.data.seeds(split)[[position]])
        length = int(records["length"][place])
        wanted = set(np.linspace(0, length, min(length + 1, FRAMES)).astype(int).tolist())
        frames = []
        for step in range(length + 1):
            if step in wanted:
                frame = games.frame(0)
                if frame is None:
                    return None
                frames.append(frame)
            if step < length:
                games.step(records["actions"][place, step][None])
        return np.stack(frames)


class Returns:
    """Returns of training's episodes: of those that go on, and of those that ended last."""

    def __init__(self, n: int):
        self.running, self.recent = np.zeros(n), np.full(RECENT, np.nan)

    def add(self, reward: np.ndarray, ended: np.ndarray) -> None:
        """The rewards of a step [n], and whether it was an episode's last."""
        self.running = self.running + reward
        self.recent = np.concatenate([self.recent, self.running[ended]])[-RECENT:]
        self.running = self.running * ~ended

    @property
    def mean(self) -> np.float32:
        """Of the last episodes; before any ended, of those that go on."""
        known = self.recent[np.isfinite(self.recent)]
        return np.float32(known.mean() if len(known) else self.running.mean())

    def state(self) -> dict[str, np.ndarray]:
        return {"running_returns": self.running, "recent_returns": self.recent}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.running, self.recent = state["running_returns"], state["recent_returns"]


def interquartile_mean(values: np.ndarray) -> float:
    """The mean of the middle half, the values at its ends weighed by their share (25 % trimmed).

    As Agarwal et al. 2021 recommend for returns; scipy.stats.trim_mean cuts whole values off.
    """
    ordered = np.sort(values)
    n = len(ordered)
    ends = np.arange(n + 1) / n
    weight = np.clip(np.minimum(ends[1:], 0.75) - np.maximum(ends[:-1], 0.25), 0, None)
    return float((ordered * weight).sum() / weight.sum())
