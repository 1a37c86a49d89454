"""A model that is asked step by step through its queue.

Every call goes through the queue, so that the steps of several callers are answered together.
"""

from __future__ import annotations

from tfbig.core.lazy import np, tf
from tfbig.deploy.server.batching import Batcher
from tfbig.deploy.server.servable import Servable
from tfbig.deploy.server.status import invalid
from tfbig.deploy.steps import State


class Steps:
    """Some rows on their way through a model's steps, as its artefact declares them.

    The batcher is to be held (`Batcher.held`).

    Example:
        steps = Steps(batcher)
        await steps.start({}, rows=1)
        outputs = await steps.step({"frame": frames[0]})
    """

    def __init__(self, batcher: Batcher):
        servable = batcher.servable
        self.batcher = batcher
        self.plan = servable.stepwise
        self.state = None
        if self.plan is None:
            raise invalid(
                f"model: {servable.name} version {servable.version} is not asked step by step"
            )

    async def start(self, inputs: dict[str, np.ndarray], rows: int = 1) -> dict[str, np.ndarray]:
        """Begins, or begins again.

        Args:
            inputs: of the program that starts, if there is one.
            rows: how many there are.

        Returns:
            What the start gives; nothing where no program starts.
        """
        plan = self.plan
        outputs = {}
        place = np.zeros(rows, np.int32)
        if plan["start"]:
            outputs = await self._ask(plan["start"], inputs)
            place = inputs[plan["count"]] if plan["count"] else place
        kept = outputs if plan["start"] else zeros(self.batcher.servable, rows)
        self.state = State(plan, place, kept)
        return outputs

    async def step(
        self, given: dict[str, np.ndarray] | None = None, chosen: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Outputs of the next step.

        Args:
            given: what each step is given anew.
            chosen: the last choice, int32 [rows], where something is chosen; None: the first one.
        """
        if self.plan["chosen"] and chosen is None:
            chosen = np.full(len(self.state.place), self.plan["first"], np.int32)
        outputs = await self._ask(self.plan["step"], self.state.inputs(given or {}, chosen))
        self.state.take(outputs)
        return outputs

    async def _ask(self, program: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.batcher.servable.check(program, inputs)
        return await self.batcher.submit(program, inputs)


def zeros(servable: Servable, rows: int) -> dict[str, np.ndarray]:
    """What is carried before the first step, where no program starts."""
    inputs = servable.signature(servable.stepwise["step"]).inputs
    carried = {name: inputs[name] for name in servable.stepwise["carried"]}
    return {
        name: np.zeros(
            (rows, *(dim.size for dim in info.tensor_shape.dim[1:])),
            tf.as_dtype(info.dtype).as_numpy_dtype,
        )
        for name, info in carried.items()
    }
