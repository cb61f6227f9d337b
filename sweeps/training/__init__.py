"""Training one trial of a sweep: knows torch, knows nothing of Ray, Parquet or MLflow."""

from sweeps.training.data import Dataset, dataset_checksum, load_dataset
from sweeps.training.loop import Training, TrainingFailed
from sweeps.training.weights import load_model

__all__ = [
    "Dataset",
    "Training",
    "TrainingFailed",
    "dataset_checksum",
    "load_dataset",
    "load_model",
]
