"""What inference and training cost: floating-point operations and parameters, counted.

Counted are the multiplications and additions of connections, 2 for each connection and place where
it is used: f_S for one sample at the present masks, f_D for the dense network. Biases,
activations, the optimiser and evaluations are left out, as is usual (Evci et al. 2020, appendix).
A training step takes the forward pass and two as long: the gradients of the activations and those
of the weights, 3 f_S a sample. Where the gradient of all weights is asked for, the last
of the three is that of the dense network: 2 f_S + f_D a sample. This is what a sparse
implementation would need; one that multiplies by masks does more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeps.training.layers import Layer
from sweeps.training.rules import Need


def inference_flops(layers: Sequence[Layer], counts: Mapping[str, int]) -> int:
    """f_S, of one sample; ``counts`` has the number of connections of each layer by name.

    >>> inference_flops([Layer("a", (3, 4), "hidden"), Layer("b", (2, 3), "output")],
    ...                 {"a": 5, "b": 6})
    22
    """
    return sum(2 * counts[layer.name] * layer.places for layer in layers)


class TrainingFlops:
    """The operations of a training so far, and those of the dense network on the same samples.

    A step costs 3 f_S a sample, or 2 f_S + f_D where the method keeps a running mean of all
    weights' gradients. An update that looks at the gradient of all weights costs 2 f_S + f_D
    on its batch: with one after every dT steps that is 3 f_S dT + 2 f_S + f_D for dT + 1
    gradients, as in Evci et al. 2020 (appendix). A saliency at the start is a dense gradient,
    3 f_D.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = list(layers)
        self._sizes = {layer.name: layer.size for layer in layers}
        self._dense = inference_flops(layers, self._sizes)
        self._sparse = self._dense
        self._connections = sum(self._sizes.values())
        self._spent = 0
        self._dense_spent = 0

    def show(self, counts: Mapping[str, int]) -> None:
        """Let these be the numbers of connections."""
        self._sparse = inference_flops(self._layers, counts)
        self._connections = sum(counts.values())

    def saliency(self, samples: int) -> None:
        """The dense network's gradient on so many samples."""
        self._spent += 3 * self._dense * samples

    def update(self, samples: int, needs: Need) -> None:
        """An update of the topology that looks at a batch of so many samples, if it needs to."""
        if needs == "gradient":
            self._spent += (2 * self._sparse + self._dense) * samples

    def step(self, samples: int, needs: Need) -> None:
        """An optimiser step on so many samples."""
        of_weights = self._dense if needs == "momentum" else self._sparse
        self._spent += (2 * self._sparse + of_weights) * samples
        self._dense_spent += 3 * self._dense * samples

    def metrics(self, others: int) -> dict[str, float]:
        """inference_flops of one sample, training_flops since the start, parameters, and dense_*,
        the same of the dense network. ``others``: parameters that are no connections. Exact up to
        2^53."""
        counts = {
            "inference_flops": self._sparse,
            "dense_inference_flops": self._dense,
            "training_flops": self._spent,
            "dense_training_flops": self._dense_spent,
            "parameters": self._connections + others,
            "dense_parameters": sum(self._sizes.values()) + others,
        }
        return {name: float(count) for name, count in counts.items()}

    def state_dict(self) -> dict[str, int]:
        return {"spent": self._spent, "dense_spent": self._dense_spent}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """``show`` says what the present numbers of connections are."""
        self._spent, self._dense_spent = state["spent"], state["dense_spent"]
