"""A Linear layer of its connections alone: memory and time go with their number.

A layer's weights are one vector, in the order of their positions, which is the order of a CSR
matrix. Activations lie in memory feature by feature, so that a connection reads and writes a whole
batch at once; to the outside they stay (batch, features), and what lies between two such layers
(activations, dropout) needs to know nothing of it.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeps.training import positions
from sweeps.training.positions import Positions, Shape
from sweeps.training.rules import FloatArray

with warnings.catch_warnings():
    # torch says once in a process that CSR is in beta; nobody who trains needs to know.
    warnings.simplefilter("ignore")
    torch.zeros(1, 1).to_sparse_csr()


class _Wiring:
    """The connections of a layer by rows, and by rows of the transpose, for torch.

    ``order`` takes values in the order of positions to the transpose's order.
    """

    def __init__(self, connected: Positions, shape: Shape) -> None:
        self.connected = connected
        self.shape = shape
        matrix = positions.as_csr(connected, shape)
        self._rows = _indices(matrix)
        matrix.data = np.arange(len(connected))
        transpose = matrix.tocsc()
        self._transpose = _indices(transpose)
        self._order = torch.from_numpy(transpose.data)

    def forward(self, weight: Tensor) -> Tensor:
        """The CSR matrix (n_out, n_in) of these weights (nnz,), which it shares."""
        return torch.sparse_csr_tensor(*self._rows, weight, self.shape, check_invariants=False)

    def backward(self, weight: Tensor) -> Tensor:
        """Its transpose, (n_in, n_out)."""
        values = weight.index_select(0, self._order)
        shape = (self.shape[1], self.shape[0])
        return torch.sparse_csr_tensor(*self._transpose, values, shape, check_invariants=False)


def _indices(matrix: Any) -> tuple[Tensor, Tensor]:
    """Where rows start, and columns, as int32: what the kernels take as it is."""
    starts, columns = matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32)
    return torch.from_numpy(starts), torch.from_numpy(columns)


class _Product(torch.autograd.Function):
    """y = W x + b; the gradients of x by the transpose, those of W at its connections alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: SparseLinear) -> Tensor:
        features = x.t().contiguous()  # (n_in, batch); copies nothing between two such layers
        ctx.save_for_backward(features, weight)
        ctx.layer = layer
        return torch.addmm(bias[:, None], layer.wiring.forward(weight), features).t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        features, weight = ctx.saved_tensors
        layer: SparseLinear = ctx.layer
        gradient = gradients[0].t().contiguous()  # (n_out, batch)
        if layer.watched:
            layer.factors = gradient.detach(), features.detach()
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (layer.wiring.backward(weight) @ gradient).t()
        sampled = torch.sparse.sampled_addmm(
            layer.wiring.forward(weight), gradient, features.t(), beta=0.0
        )
        return of_x, sampled.values(), gradient.sum(dim=1), None


class SparseLinear(nn.Module):
    """y = W x + b with the weights of its connections, (nnz,), and a bias, (n_out,); all zeros.

    While ``watched`` is set, each backward pass leaves the two factors of the gradient of all
    weights in ``factors``: the gradient of y, (n_out, batch), and x, (n_in, batch).
    """

    def __init__(self, shape: Shape, connected: Positions) -> None:
        super().__init__()
        self.shape = shape
        self.weight = nn.Parameter(torch.zeros(len(connected)))
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        self.wiring = _Wiring(connected, shape)
        self.watched = False
        self.factors: tuple[Tensor, Tensor] | None = None

    @property
    def connected(self) -> Positions:
        """Sorted positions of the weights, (nnz,)."""
        return self.wiring.connected

    def connect(self, connected: Positions) -> None:
        """Let the weights be those of other positions; the weights themselves are the caller's."""
        if not np.array_equal(connected, self.connected):
            self.wiring = _Wiring(connected, self.shape)

    def dense_weight(self) -> Tensor:
        """The weights as a matrix (n_out, n_in)."""
        dense = torch.zeros(self.shape)
        dense.view(-1)[torch.from_numpy(self.connected)] = self.weight.detach()
        return dense

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_out) of (batch, n_in); in memory feature by feature."""
        y: Tensor = _Product.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return y


class ProductScores:
    """The gradient of all weights of a layer, multiplied out as its rows are asked for.

    ``factors``: the gradient of y, (n_out, batch), and x, (n_in, batch).
    """

    def __init__(self, factors: tuple[Tensor, Tensor]) -> None:
        self._gradient, self._features = factors

    def rows(self, start: int, stop: int) -> FloatArray:
        rows: FloatArray = (self._gradient[start:stop] @ self._features.t()).numpy()
        return rows
