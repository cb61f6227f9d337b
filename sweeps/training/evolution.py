"""The topology of a training as it evolves: its updates, and what they look back on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sweeps.training import positions
from sweeps.training.connections import Connections
from sweeps.training.methods import Length
from sweeps.training.parameters import Parameters, carried
from sweeps.training.positions import Positions
from sweeps.training.rules import LayerState, Scores
from sweeps.training.streams import Purpose, Streams


class Evolution:
    """Topology updates by a method, and the two things that some of them need from earlier steps.

    They are the running mean of all weights' gradients, where growth is by momentum, and the
    parameters of an early step, where a method goes back to them after each update.

    Args:
        method: says when and how.
        length: of the training.
        connections, parameters, slots: of the training; an update changes all three alike.
        model: whose running statistics a look at a batch must not move.
    """

    def __init__(
        self,
        method: Any,
        length: Length,
        streams: Streams,
        connections: Connections,
        parameters: Parameters,
        slots: MutableMapping[str, Tensor],
        model: nn.Module,
    ) -> None:
        self._method, self._streams, self._model = method, streams, model
        self._connections, self._parameters, self._slots = connections, parameters, slots
        self._schedule = method.schedule(length)
        self.rewinds_to: int | None = method.rewinds_to(length)
        self._momentum: Tensor | None = None
        if method.needs == "momentum":
            self._momentum = torch.zeros_like(parameters.gradients[: parameters.n_masked])
        # The connections of the step to go back to, and its compact parameters.
        self._early: tuple[dict[str, Positions], Tensor] | None = None
        self.remember(0)

    @property
    def rewinds(self) -> bool:
        """Whether an update that is made now goes back to early parameters."""
        return self._early is not None

    def due(self, step: int) -> bool:
        """Whether an update is due after ``step`` steps."""
        return bool(self._schedule.due(step))

    def note_gradients(self) -> None:
        """The gradients of all weights are there, before those off the mask are cleared."""
        if self._momentum is not None:
            gradients = self._parameters.gradients[: self._parameters.n_masked]
            self._momentum.lerp_(gradients, 1 - self._method.settings.momentum)

    def remember(self, step: int) -> None:
        """The parameters are those after ``step`` steps."""
        if step == self.rewinds_to:
            connected = self._connections.connected()
            compact = self._parameters.compact(self._parameters.values, connected)
            self._early = connected, compact

    def update(self, step: int, backward: Callable[[], Any]) -> int:
        """The update that is due after ``step`` steps; returns how many connections are new.

        ``backward()`` makes the gradients of the next batch, should the method need them.
        """
        layers = {layer.name: layer for layer in self._connections.masked}
        numbers = {layer.name: index for index, layer in enumerate(self._connections.layers)}
        changes = self._method.update(
            self._states(backward),
            self._schedule.fraction(step),
            lambda name: self._streams.for_topology(Purpose.GROWTH, step, numbers[name]),
        )
        new = 0
        for name, layer in layers.items():
            change = changes[name]
            new += self._connections.change(layer, change)
            fan_in = positions.fan_in(self._connections.of(layer), layer.shape)
            new_weights = self._method.new_weights(
                self._streams.for_weights(Purpose.NEW_WEIGHTS, step, numbers[name]),
                fan_in[change.grown // layer.shape[1]],
            )
            self._parameters.change(name, change, new_weights, self._slots)
        if self._early is not None:
            self._rewind(*self._early)
        return new

    def _states(self, backward: Callable[[], Any]) -> dict[str, LayerState]:
        scores: Mapping[str, Scores] = {}
        if self._method.needs == "gradient":
            with self._statistics_kept():
                scores = self._parameters.gradient_scores(backward)
        elif self._momentum is not None:
            scores = self._parameters.scores(self._momentum)
        return {
            layer.name: LayerState(
                layer.shape,
                self._connections.of(layer),
                self._parameters.weights(layer.name, self._connections.of(layer)),
                self._connections.ever[layer.name],
                scores.get(layer.name),
            )
            for layer in self._connections.masked
        }

    def _rewind(self, connected: dict[str, Positions], values: Tensor) -> None:
        """Back to the parameters of an early step, but for the connections lost since."""
        now = self._connections.connected()
        early = carried(values, connected, now)
        self._parameters.expand(self._parameters.values, early, now)
        for slot in self._slots.values():
            slot.zero_()

    @contextmanager
    def _statistics_kept(self) -> Iterator[None]:
        """A look at a batch that is no step: batch norm's running statistics stay."""
        before = [buffer.clone() for buffer in self._model.buffers()]
        yield
        for buffer, kept in zip(self._model.buffers(), before, strict=True):
            buffer.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """What earlier steps have left, on the CPU."""
        early = None
        if self._early is not None:
            early = self._connections.packed(self._early[0]), self._early[1].clone()
        momentum = None if self._momentum is None else self._momentum.cpu().clone()
        return {"momentum": momentum, "early": early}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._momentum is not None:
            self._momentum.copy_(state["momentum"])
        self._early = None
        if state["early"] is not None:
            connected, values = state["early"]
            self._early = self._connections.unpacked(connected), values
