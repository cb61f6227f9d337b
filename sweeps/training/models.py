"""Models by name: which layers they have, and which of them a mask can thin out."""

from __future__ import annotations

from torch import nn

from sweeps.training.entries import Registry
from sweeps.training.layers import Layer, Model, Role
from sweeps.training.lenet import LeNet
from sweeps.training.mlp import MLP
from sweeps.training.resnet import ResNet
from sweeps.training.vgg import VGG

__all__ = ["MODELS", "Layer", "Model", "Role"]

MODELS = Registry(
    "model",
    "toposweep.models",
    {"mlp": MLP, "lenet": LeNet, "vgg": VGG, "resnet": ResNet},
    base=nn.Module,
    needs=("layers", "weight", "draw_activations"),
)
