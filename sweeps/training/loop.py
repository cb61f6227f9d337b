"""Training one trial: the loop, the same for every method.

Steps are counted from 0 (nothing done). The topology update that is due after step s is made at
the start of step s + 1, so the state after step s, its masks, weights and metrics, is of one
topology: the one that was trained and evaluated; and nothing evolves after the last step.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor

from storage.errors import InputError
from sweeps.training import positions
from sweeps.training.augmentation import augmentation
from sweeps.training.building import build_model, dense_saliency, draw_weights, flat_parameters
from sweeps.training.compute import Compute, choose_compute
from sweeps.training.config import canonical_json, is_same, parse_config, split_of
from sweeps.training.connections import Connections
from sweeps.training.data import load_dataset
from sweeps.training.dropout import Draws
from sweeps.training.evolution import Evolution
from sweeps.training.flops import TrainingFlops
from sweeps.training.layers import Role, evaluation_batch
from sweeps.training.learning_rates import LearningRates
from sweeps.training.methods import Length
from sweeps.training.objective import Objective, loss_and_accuracy
from sweeps.training.positions import BoolArray
from sweeps.training.rules import FloatArray
from sweeps.training.sums import EpochSums
from sweeps.training.verdict import Verdict
from sweeps.training.weights import weights_to_bytes


class TrainingFailed(Exception):
    """The training cannot go on; the message says what happened and at which step."""


class Training:
    """A trial from its resolved configuration: build it, run it, stop and go on anywhere.

    Two trainings of one configuration are equal to the last bit on one machine, in one process or
    in two, interrupted or not. torch's global random generator is neither used nor touched.

    Args:
        config: the resolved configuration (data, model, method, optimizer, epochs, seeds).
        data_path: the folder with the data set's files, where it is not downloaded.
        device: ``cpu`` or ``cuda``; masks and first weights do not depend on it.
        threads: torch's threads in this process, from now on.
        compute: ``masked`` trains dense matrices under masks, ``sparse`` the connections alone;
            ``auto`` chooses by the configuration (see compute.py). Results differ by rounding.

    Raises:
        InputError: the configuration, the data or the device is not what it must be.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        data_path: str | None = None,
        device: str = "cpu",
        threads: int = 1,
        compute: Compute = "auto",
    ) -> None:
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        self.threads = threads
        self.device = _checked_device(device)
        trial = self._trial = parse_config(self.config)
        self._streams = trial.streams
        self._method = trial.method
        torch.set_num_threads(threads)

        self.dataset = load_dataset(trial.data, data_path)
        if trial.checksum not in (None, self.dataset.checksum):
            raise InputError(
                f"data.checksum: {trial.checksum!r} is not allowed: the {self.dataset.name} files "
                f"found here have {self.dataset.checksum}"
            )
        self._tensors = self.dataset.tensors(device)
        self._split = split_of(trial, self.dataset)
        self.steps_per_epoch = self._split.steps_per_epoch
        self.total_steps = trial.epochs * self.steps_per_epoch
        length = Length(trial.epochs, self.steps_per_epoch)
        self._round = self._method.round_steps(length)
        self._rates = LearningRates(trial.optimizer, self.steps_per_epoch, self._round)
        self._objective = Objective(trial.optimizer, self.device)
        rounds = self._round < self.total_steps
        self.verdict = Verdict(trial.optimizer, self._split, self.dataset.y_train, rounds)

        self.layers = trial.layers(self.dataset)
        self._flops = TrainingFlops(self.layers)
        self._augment = augmentation(trial.data, self.dataset.input_shape, self._streams)
        self._evaluated = evaluation_batch(self.layers)
        self.compute = choose_compute(compute, trial, self.layers, self.device.type)
        self.connections = Connections(
            self.layers, self._method.start(self.layers, self._streams, self._saliency)
        )
        connected = self.connections.connected()
        sparse = connected if self.compute == "sparse" else {}
        self.model = build_model(trial, self.dataset, self.device, sparse)
        draw_weights(self.model, self.connections, trial)
        self._dropout = Draws(self.model, self._streams)
        self._flops.show(self.connections.counts())
        self.parameters = flat_parameters(self.model, self.connections, self.compute)
        self.optimizer = trial.optimizer_class(trial.optimizer, self.parameters)
        self._evolution = Evolution(
            self._method, length, self._streams, self.connections, self.parameters,
            self.optimizer.slots, self.model,
        )  # fmt: skip

        self.step = 0
        self._sums = EpochSums()

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.step // self.steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping has ended the training."""
        return self.step >= self.total_steps or self.verdict.ended

    def ends_round(self, step: int) -> bool:
        """Whether the weights go back to an early step's after ``step`` steps."""
        return bool(self._round < self.total_steps and step % self._round == 0)

    def masks(self) -> list[tuple[str, BoolArray, Role, int]]:
        """(name, mask (n_out, n_in), role, in_group) of every layer, first to last; copies."""
        return [
            (layer.name, self.connections.mask(layer), layer.role, layer.in_group)
            for layer in self.layers
        ]

    def sparse_masks(self) -> list[tuple[str, csr_array, Role, int]]:
        """The same with masks as sparse matrices: memory by the number of connections."""
        return [
            (layer.name, positions.as_csr(self.connections.of(layer), layer.shape), layer.role,
             layer.in_group)
            for layer in self.layers
        ]  # fmt: skip

    def run_epoch(self, on_step: Callable[[int], None] | None = None) -> dict[str, float]:
        """Train to the end of the epoch that is under way and evaluate.

        ``on_step(step)`` is called after each step; its time is not counted. Returns the epoch's
        metrics: train_loss and train_accuracy (over the epoch's batches, each as it was trained
        on), validation_* (with a split) and test_*, density, density_<layer>, connections,
        connections_changed (in the new masks and not in the old, over the updates of this
        epoch), exploration, FLOPs and parameters (see flops.py), learning_rate (of the epoch's
        last step), seconds.

        Raises TrainingFailed where a loss is no longer finite or the accuracy has fallen to chance
        (see collapse.py), naming the epoch (the first is 1) and the step.
        """
        if self.finished:
            raise ValueError(f"all {self.step} steps are done")
        torch.set_num_threads(self.threads)
        started = time.perf_counter()
        epoch, first = divmod(self.step, self.steps_per_epoch)
        for batch in self.batches(epoch)[first:]:
            if self._evolution.due(self.step):
                self._update_topology(batch)
            self.train_step(batch)
            self._evolution.remember(self.step)
            if on_step is not None:
                self._sums.seconds += time.perf_counter() - started
                on_step(self.step)
                started = time.perf_counter()
        metrics = self._metrics()
        self._judge(metrics)
        metrics["seconds"] = self._sums.seconds + time.perf_counter() - started
        self._sums = EpochSums()
        return metrics

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """The batches of epoch ``epoch`` (the first is 0), as indices into the training samples."""
        order = torch.from_numpy(self._split.order(self._streams, epoch)).to(self.device)
        return torch.split(order, self._split.batch_size)

    def train_step(self, batch: Tensor) -> None:
        """One optimiser step on the samples of a batch, without any topology update."""
        loss, scores, y = self._backward(batch)
        self._evolution.note_gradients()
        self.parameters.mask_gradients()
        self._flops.step(len(batch), self._method.needs)
        self._objective.limit(self.parameters.gradients)
        lr = self._learning_rate(self.step)
        self.step += 1
        # A rewound optimiser has forgotten its steps.
        self.optimizer.step((self.step - 1) % self._round + 1, lr)
        self._sums.note(loss, scores, y)

    def _learning_rate(self, step: int) -> float:
        """Of the step after ``step`` steps; a rewound training goes on from the step rewound to."""
        rounds, within = divmod(step, self._round)
        return self._rates.at(within + (self._evolution.rewinds_to or 0 if rounds else 0))

    def _backward(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of all weights on a batch; its loss, class scores and labels."""
        x, y = self._tensors[0][batch], self._tensors[1][batch]
        self.parameters.gradients.zero_()
        self._dropout.at(self.step)
        loss, scores = self._objective.loss(self.model, self._augment(x, self.step), y)
        # Reading a loss waits for a GPU: there all losses of an epoch are checked at once.
        if self.device.type == "cpu" and not math.isfinite(loss.item()):
            raise self._failure("loss", loss.item(), self.step + 1)
        torch.autograd.backward(loss)
        return loss, scores, y

    def _update_topology(self, batch: Tensor) -> None:
        """The update that is due after the steps done; a gradient is that of the next batch."""
        self._sums.settle(self.step, self._failure)
        self._flops.update(len(batch), self._method.needs)
        self._sums.changed += self._evolution.update(self.step, lambda: self._backward(batch))
        self._flops.show(self.connections.counts())
        if self._evolution.rewinds:
            self.verdict.collapse.forget()

    def _saliency(self) -> dict[str, FloatArray]:
        batch = self.batches(epoch=0)[0]
        self._flops.saliency(len(batch))
        x = self._augment(self._tensors[0][batch], 0)
        return dense_saliency(self._trial, self.dataset, x, self._tensors[1][batch])

    def _metrics(self) -> dict[str, float]:
        self._sums.settle(self.step, self._failure)
        n_train = len(self._split.train)
        evaluation = self.evaluate()
        for name, value in evaluation.items():
            if not math.isfinite(value):
                raise self._failure(name, value, self.step)
        return {
            "train_loss": self._sums.loss / n_train,
            "train_accuracy": self._sums.correct / n_train,
            **evaluation,
            **self.connections.metrics(),
            "connections_changed": float(self._sums.changed),
            "learning_rate": self._learning_rate(self.step - 1),
            **self._flops.metrics(len(self.parameters.values) - self.parameters.n_weights),
        }

    def _judge(self, metrics: Mapping[str, float]) -> None:
        reason = self.verdict.judge(metrics, self.epoch, last=self.step >= self.total_steps)
        if reason is not None:
            raise TrainingFailed(f"{reason} at epoch {self.epoch}, step {self.step}")

    def evaluate(self) -> dict[str, float]:
        """validation_loss and validation_accuracy (with a split), test_loss and test_accuracy."""
        x_train, y_train, x_test, y_test = self._tensors
        metrics: dict[str, float] = {}
        if len(self._split.validation):
            held_out = torch.from_numpy(self._split.validation).to(self.device)
            loss, accuracy = loss_and_accuracy(
                self.model, x_train[held_out], y_train[held_out], self._evaluated
            )
            metrics |= {"validation_loss": loss, "validation_accuracy": accuracy}
        loss, accuracy = loss_and_accuracy(self.model, x_test, y_test, self._evaluated)
        return metrics | {"test_loss": loss, "test_accuracy": accuracy}

    def _failure(self, what: str, value: float, step: int) -> TrainingFailed:
        epoch = (step - 1) // self.steps_per_epoch + 1
        return TrainingFailed(f"{what} is {value} at epoch {epoch}, step {step}")

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on; tensors (on the CPU) and numbers.

        Safe for ``torch.save`` and ``torch.load(weights_only=True)``. There are no random states
        in it: every draw is a function of the seeds and the step (see streams.py).
        """
        self._sums.settle(self.step, self._failure)
        compact, connected = self.parameters.compact, self.connections.connected()
        return {
            "config": canonical_json(self.config),
            "step": self.step,
            "values": compact(self.parameters.values, connected),
            "slots": {
                name: compact(slot, connected) for name, slot in self.optimizer.slots.items()
            },
            "buffers": {name: buffer.cpu().clone() for name, buffer in self.model.named_buffers()},
            "connections": self.connections.state_dict(),
            "sums": self._sums.state_dict(),
            "flops": self._flops.state_dict(),
            "verdict": self.verdict.state_dict(),
            **self._evolution.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken, in the middle of an epoch too.

        A state taken by ``on_step`` after an epoch's last step goes on with the next epoch: the
        metrics of the one that ended are not in it, but they are measured again to judge it.

        Raises InputError where the state is of another configuration.
        """
        if not is_same(state["config"], self.config):
            raise InputError("the checkpoint is of another configuration than this trial's")
        self.step = state["step"]
        for name, buffer in self.model.named_buffers():
            buffer.copy_(state["buffers"][name])
        self.connections.load_state_dict(state["connections"])
        self._flops.load_state_dict(state["flops"])
        self._flops.show(self.connections.counts())
        connected = self.connections.connected()
        self.parameters.show(connected, self.optimizer.slots)
        self.parameters.expand(self.parameters.values, state["values"], connected)
        for name, slot in self.optimizer.slots.items():
            self.parameters.expand(slot, state["slots"][name], connected)
        self._evolution.load_state_dict(state)
        self.verdict.load_state_dict(state["verdict"])
        self._sums = EpochSums()
        self._sums.load_state_dict(state["sums"])
        if self.step % self.steps_per_epoch == 0:
            if self.verdict.epochs < self.epoch:
                self._judge(self._metrics())
            self._sums = EpochSums()

    def weights_bytes(self) -> bytes:
        """The weights as a safetensors file, the configuration in its metadata."""
        return weights_to_bytes(
            self.model, self.config, self.dataset.input_shape, self.dataset.n_classes
        )

    def save_weights(self, path: str | PathLike[str]) -> None:
        """Write ``weights_bytes`` to a file, whole or not at all; ``load_model(path)`` reads it."""
        temporary = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
        temporary.write_bytes(self.weights_bytes())
        temporary.replace(path)


def _checked_device(device: str) -> torch.device:
    try:
        checked = torch.device(device)
    except RuntimeError:
        raise InputError(f"device: {device!r} is not allowed: cpu or cuda") from None
    if checked.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device: {device!r} is not allowed: torch finds no CUDA device here")
    return checked
