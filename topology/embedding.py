"""Points in the plane whose distances are as near as can be to given ones: metric scaling."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def metric_mds(
    distances: ArrayLike, dimensions: int = 2, rounds: int = 300, tolerance: float = 1e-6
) -> tuple[NDArray[np.float64], float]:
    """Metric multidimensional scaling: classical scaling, then SMACOF. Draws nothing at random.

    Args:
        distances: (n, n), finite, symmetric, zero on the diagonal.
        dimensions: of the points.
        rounds: at most so many majorisations.
        tolerance: stop once a round lowers the stress by less than this.

    Returns:
        points (n, dimensions), centred, in the distances' unit, main axis first; and Kruskal's
        stress-1, sqrt(sum (|x_i - x_j| - d_ij)^2 / sum d_ij^2) over the pairs: 0 where the
        picture says it all.

    Raises:
        ValueError: the matrix is not one of distances.

    Source: de Leeuw 1977; Borg and Groenen, Modern Multidimensional Scaling, chapters 8 and 12.

    >>> points, stress = metric_mds([[0, 3, 4], [3, 0, 5], [4, 5, 0]])
    >>> round(float(np.linalg.norm(points[1] - points[2])), 3), round(stress, 3)
    (5.0, 0.0)
    """
    d = np.asarray(distances, dtype=np.float64)
    if d.ndim != 2 or d.shape[0] != d.shape[1]:
        raise ValueError(f"distances of shape {d.shape}: must be square")
    if not np.isfinite(d).all() or (d != d.T).any() or np.diagonal(d).any():
        raise ValueError("distances must be finite, symmetric and zero on the diagonal")
    total = float((d**2).sum())
    if total == 0.0:
        return np.zeros((len(d), dimensions)), 0.0
    points = _classical(d, dimensions)
    stress = np.inf
    for _ in range(rounds):
        between = _between(points)
        before, stress = stress, float(np.sqrt(((between - d) ** 2).sum() / total))
        if before - stress < tolerance:
            break
        # The Guttman transform B(X) X / n never raises the stress.
        ratio = np.divide(d, between, out=np.zeros_like(d), where=between > 0)
        points = (ratio.sum(axis=1)[:, None] * points - ratio @ points) / len(d)
    points = _main_axes(points)
    return points, float(np.sqrt(((_between(points) - d) ** 2).sum() / total))


def _classical(d: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    """Coordinates from the leading eigenvectors of the doubly centred squared distances."""
    squared = d**2
    means = squared.mean(axis=0)
    gram = -0.5 * (squared - means[:, None] - means[None, :] + squared.mean())
    values, vectors = np.linalg.eigh(gram)
    kept = slice(None, -dimensions - 1, -1)
    points = vectors[:, kept] * np.sqrt(np.clip(values[kept], 0.0, None))
    missing = dimensions - points.shape[1]
    return np.pad(points, ((0, 0), (0, max(missing, 0))))


def _between(points: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = (points**2).sum(axis=1)
    gaps = squares[:, None] + squares[None, :] - 2.0 * points @ points.T
    between: NDArray[np.float64] = np.sqrt(np.clip(gaps, 0.0, None))
    np.fill_diagonal(between, 0.0)
    return between


def _main_axes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred, turned to the main axes; each axis points where its largest entry is positive."""
    points = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(points, full_matrices=len(points) < points.shape[1])
    points = points @ axes.T
    largest = points[np.abs(points).argmax(axis=0), np.arange(points.shape[1])]
    return points * np.where(largest < 0, -1.0, 1.0)
