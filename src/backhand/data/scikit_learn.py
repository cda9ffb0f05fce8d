"""The data sets that are part of scikit-learn, split and standardised."""

import numpy as np
import sklearn.datasets
import torch
from sklearn.preprocessing import StandardScaler

from backhand.config.dataset_info import DATASETS
from backhand.config.schema import DataConfig
from backhand.data.dataset import Dataset, Rows, split_rows


def load_scikit_learn(settings: DataConfig) -> Dataset:
    """Load a scikit-learn data set; inputs are standardised with the training split's mean and standard deviation."""
    info = DATASETS[settings.name]
    bunch = getattr(sklearn.datasets, f"load_{settings.name}")()
    inputs, labels = np.asarray(bunch.data, dtype=np.float64), np.asarray(bunch.target)
    classes = labels if info.classes is not None else None
    split = split_rows(classes, len(labels), settings.val_fraction, settings.test_fraction, settings.split_seed)
    scaler = StandardScaler().fit(inputs[split["train"]])
    targets = torch.from_numpy(labels).long() if info.classes is not None else torch.from_numpy(labels).unsqueeze(-1)
    return Dataset(
        {
            name: Rows(torch.from_numpy(ids), torch.from_numpy(scaler.transform(inputs[ids])), targets[ids])
            for name, ids in split.items()
        },
        info,
        [] if info.classes is None else [str(name) for name in bunch.target_names],
        centre=torch.from_numpy(scaler.mean_) if info.image_shape else None,
        scale=torch.from_numpy(scaler.scale_) if info.image_shape else None,
    )
