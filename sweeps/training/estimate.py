"""What a trial will cost, before it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from sweeps.training.compute import Chosen, Compute, choose_compute
from sweeps.training.config import TrialConfig, parse_config, split_of
from sweeps.training.data import Dataset, load_dataset
from sweeps.training.layers import Layer, evaluation_batch, multiplications, widest
from sweeps.training.loop import Training, TrainingFailed

_FLOAT = 4  # bytes
_POSITION = 8
# Of a connection by itself: its position, and some more where it has been before; two columns, its
# place in the transpose and its value there, and what a product of gradients leaves for a moment.
_WIRING = 3 * _POSITION + 2 * 4 + 8 + 3 * _FLOAT


@dataclass(frozen=True)
class Estimate:
    """A trial's cost.

    ``parameters`` counts every learned number, connected or not; ``connections`` those of each
    layer that the mask keeps; ``compute`` says what the masked layers are computed with, and
    ``multiplications`` counts those of one sample's way forward, masked or not. ``memory_bytes`` is
    the trial's own: parameters, gradients, optimiser, masks, activations and the data set, without
    the libraries' few hundred MB a process. ``seconds_per_epoch`` is measured on this machine, None
    where that was not asked for or, for mixed precision without a CUDA device, is not possible.
    """

    parameters: int
    connections: dict[str, int]
    compute: Chosen
    multiplications: int
    memory_bytes: int
    steps_per_epoch: int
    total_steps: int
    seconds_per_epoch: float | None


def estimate(
    config: Mapping[str, Any],
    data_path: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    measure_for: float = 0.3,
    compute: Compute = "auto",
) -> Estimate:
    """Estimate the trial of a resolved configuration.

    ``measure_for`` is about how many seconds of real steps to time; 0 builds and times nothing.
    Trials that differ only in seeds cost the same: ask once for all of them.
    Raises InputError where the configuration cannot be trained.
    """
    trial = parse_config(config)
    dataset = load_dataset(trial.data, data_path)
    split = split_of(trial, dataset)
    layers = trial.layers(dataset)
    sizes = {layer.name: layer.shape[0] * layer.shape[1] for layer in layers}
    parameters = _count_parameters(trial, dataset)
    chosen = choose_compute(compute, trial, layers, torch.device(device).type)
    seconds = None
    possible = device != "cpu" or not trial.optimizer.mixed_precision
    if measure_for > 0 and possible:
        training = Training(config, data_path, device, threads, compute)
        seconds = _seconds_per_epoch(training, measure_for)
    return Estimate(
        parameters=parameters,
        connections=sizes | trial.method.counts(layers),
        compute=chosen,
        multiplications=multiplications(layers),
        memory_bytes=_memory(trial, dataset, layers, parameters, chosen),
        steps_per_epoch=split.steps_per_epoch,
        total_steps=split.steps_per_epoch * trial.epochs,
        seconds_per_epoch=seconds,
    )


def _count_parameters(trial: TrialConfig, dataset: Dataset) -> int:
    with torch.device("meta"):  # shapes only: a model of any size is built in no memory
        model = trial.model_class(trial.model, dataset.input_shape, dataset.n_classes)
    return sum(parameter.numel() for parameter in model.parameters())


def _memory(
    trial: TrialConfig, dataset: Dataset, layers: list[Layer], parameters: int, compute: Chosen
) -> int:
    slots = len(trial.optimizer_class.slot_names(trial.optimizer))
    sizes = {layer.name: layer.shape[0] * layer.shape[1] for layer in layers}
    masked = sum(sizes[layer.name] for layer in trial.method.masked(layers))
    most = sum(trial.method.most(layers).values())
    if compute == "sparse":
        parameters += most - masked
        connections = most * _WIRING
    else:
        # A mask is a float where gradients are multiplied by it, and positions beside it.
        connections = masked * _FLOAT + 2 * most * _POSITION
    held = (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    data = sum(int(array.nbytes) for array in held)
    activations = _activations(layers, trial.optimizer.batch_size, len(dataset.y_test))
    needed: int = _FLOAT * (parameters * (2 + slots) + activations) + connections + data
    return needed


def _activations(layers: list[Layer], batch_size: int, n_test: int) -> int:
    """Numbers that are held at once between layers, in a training step or in an evaluation.

    A step keeps what each layer gives and what its activation makes of that; on the way back come
    the gradients of one layer at a time. An evaluation keeps nothing behind the layer that it is
    at.
    """
    given = sum(layer.shape[0] * layer.places for layer in layers)
    step = batch_size * (2 * given + 2 * widest(layers))
    return max(step, 2 * min(evaluation_batch(layers), n_test) * widest(layers))


def _seconds_per_epoch(training: Training, measure_for: float) -> float:
    """From real steps and one evaluation; topology updates are left out."""
    batches = training.batches(epoch=0)
    steps = 0
    started = time.perf_counter()
    # A trial whose loss is soon infinite has taken its time all the same.
    with suppress(TrainingFailed):
        training.train_step(batches[0])  # the first one is slower: libraries set themselves up
        started = time.perf_counter()
        while time.perf_counter() - started < measure_for:
            training.train_step(batches[steps % len(batches)])
            steps += 1
    _wait(training.device)
    steps = max(steps, 1)
    seconds_per_step = (time.perf_counter() - started) / steps
    started = time.perf_counter()
    training.evaluate()
    return seconds_per_step * training.steps_per_epoch + time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
