"""What a classifier of sequences does besides: scanning long ones, and single substitutions.

Shapes: b sequences, t letters of the longest, w windows, k classes.
"""

from __future__ import annotations

from tfbig.core.contracts import Task
from tfbig.core.lazy import np, tf
from tfbig.core.serving import Program, Trial
from tfbig.decoding import sequence_windows as windows
from tfbig.prep import nucleotides
from tfbig.prep.nucleotides import BASES, NUCLEOTIDES

LONGEST = 1 << 20  # letters of a sequence that is scanned
TRIED = 4  # sequences of a split that exported programs are tried with
STRONGEST = 10  # substitutions that are written on the terminal


class SequencePrograms:
    """The programs of a trained classifier of sequences.

    Args:
        task: a bound one.
        model: the trained model.
        of: the number of the class that effects are of; -1: the one said of each sequence.
    """

    def __init__(self, task: Task, model, of: int):
        self.task, self.model, self.of = task, model, of
        self.width = task.answers.width
        self._scan = tf.function(self.scan, autograph=False, reduce_retracing=True)
        self._mutate = tf.function(self.mutate, autograph=False, reduce_retracing=True)

    @property
    def can_mutate(self) -> bool:
        """Whether the longest sequence's substitutions are few enough for one request."""
        return len(BASES) * self.task.letters**2 <= windows.MOST_LETTERS

    def programs(self) -> dict[str, Program]:
        sequence = {"sequence": self.task.medium(self.task.letters).served("sequence")}
        step = {"step": tf.TensorSpec([], tf.int32)}
        return {
            "scan": Program(function=self.scan, inputs={**sequence, **step}),
            "mutate": Program(function=self.mutate, inputs=sequence),
        }

    def _asked(self, numbers, count):
        """Logits of numbers [n, t] with their counts."""
        raw = {"sequence": numbers, "sequence_count": count}
        if self.task.facts["fixed"]:
            raw = {"sequence": tf.reshape(numbers, [-1, self.task.letters])}
        return self.task.predict(self.model, self.task.preprocess(raw, False))["logits"]

    def scan(self, sequence, step):
        """Probability of each class in windows along sequences, string [b].

        Returns:
            probability float32 [b, w, k], zeros behind the last window; windows int32 [b].
        """
        numbers, count = self.task.medium(LONGEST).decode(windows.bounded(sequence))

        def ask(letters, counts):
            return tf.nn.softmax(self._asked(letters, counts))

        probability, number = windows.scanned(
            ask, numbers, count, self.width, self.task.letters, step
        )
        return {"probability": probability, "windows": number}

    def mutate(self, sequence):
        """Answers for sequences, string [b], and what each substitution does to the log odds.

        Returns:
            What the task answers, and effect float32 [b, t, 4] in nats, zeros behind the end.
        """
        numbers, count = self.task.medium(self.task.letters).decode(windows.bounded(sequence))

        def ask(letters, counts):
            return windows.log_odds(self._asked(letters, counts))

        logits = self._asked(numbers, count)
        outputs = self.task.answers.outputs(logits)
        label = outputs["label"] if self.of < 0 else tf.fill(tf.shape(count), self.of)
        changed = windows.substituted(ask, numbers, count, self.width, len(BASES))
        difference = changed - windows.log_odds(logits)[:, None, None]
        chosen = tf.one_hot(label, self.width)[:, None, None]
        effect = tf.reduce_sum(difference * chosen, -1)
        real = tf.range(tf.shape(numbers)[1])[None] < count[:, None]
        # A base in its own place changes nothing, rounding apart
        same = tf.equal(nucleotides.read(numbers), 1.0)
        effect = tf.where(real[..., None] & ~same, effect, 0.0)
        return {**self.task.answers.answer(outputs), "effect": effect}

    def trials(self, split: str) -> list[Trial]:
        """Some sequences of a split with their effects; and, one behind the other, scanned."""
        data = self.task.data
        raw = data.examples(split, np.arange(min(TRIED, data.size(split))))
        single = self.task.encode(raw)["sequence"]
        joined = np.array([b"".join(single), max(single, key=len)], object)
        step = np.int32(max(1, self.task.letters // 8))
        trials = [_trial("scan", self._scan, "window", {"sequence": joined, "step": step})]
        if self.can_mutate:
            trials.append(_trial("mutate", self._mutate, "sequence", {"sequence": single}))
        return trials

    def track(self, name: str, numbers: np.ndarray, step: int, write) -> dict:
        """A sequence's windows, written as lines of BED."""
        task = self.task
        letters = task.encode({"sequence": [numbers]})["sequence"]
        (scores,) = self._scan(tf.constant(letters), tf.constant(step))["probability"].numpy()
        found = []
        for i, row in enumerate(scores):
            start, best = i * step, int(row.argmax())
            end = min(start + task.letters, len(numbers))
            label, score = task.answers.names[best], float(row[best])
            window = {"start": start, "end": end, "label": label, "score": score}
            found.append({**window, "scores": [float(value) for value in row]})
            write(f"{name}\t{start}\t{end}\t{label}\t{score:.4f}\n")
        return {"input": name, "labels": list(task.answers.names), "windows": found}

    def effects(self, numbers: np.ndarray, said: str, write) -> dict:
        """The effects of substitutions, the strongest ones in words."""
        letters = self.task.encode({"sequence": [numbers]})["sequence"]
        (effect,) = self._mutate(tf.constant(letters))["effect"].numpy()
        label = self.task.answers.names[self.of] if self.of >= 0 else said
        order = np.argsort(-np.abs(effect), axis=None, kind="stable")[:STRONGEST]
        words = []
        for place, base in zip(*np.unravel_index(order, effect.shape), strict=True):
            letter = NUCLEOTIDES.letters[numbers[place]]
            words.append(f"{letter}{place + 1}{BASES[base]} {effect[place, base]:+.2f}")
        write(f"  log odds of {label}: {', '.join(words)}\n")
        return {"effect_of": label, "effects": effect.tolist()}


def _trial(name: str, program, unit: str, inputs: dict) -> Trial:
    answers = program(**{key: tf.constant(value) for key, value in inputs.items()})
    expected = {key: value.numpy() for key, value in answers.items()}
    return Trial(program=name, inputs=inputs, expected=expected, unit=unit)
