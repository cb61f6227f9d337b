"""Training one trial of a sweep: knows torch, knows nothing of Ray, Parquet or MLflow."""

from sweeps.training.config import check_training, steps_per_epoch
from sweeps.training.data import Dataset, dataset_checksum, load_dataset
from sweeps.training.estimate import Estimate, estimate
from sweeps.training.imports import allow_imports
from sweeps.training.loop import Training, TrainingFailed
from sweeps.training.weights import load_model

__all__ = [
    "Dataset",
    "Estimate",
    "Training",
    "TrainingFailed",
    "allow_imports",
    "check_training",
    "dataset_checksum",
    "estimate",
    "load_dataset",
    "load_model",
    "steps_per_epoch",
]
