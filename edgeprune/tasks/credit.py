"""Default of credit card clients in Taiwan (UCI data set 350, I-C. Yeh 2009, CC BY 4.0): 30,000 rows of 23 features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np

from edgeprune.task import Data, Recipe, Task
from edgeprune.tasks import files, metrics, networks, recipes, splits

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["credit"]

FEATURES, ROWS = 23, 30_000
TABLE = "UCI_Credit_Card.csv"
CREDIT = files.DataSet(
    title="the credit-default table",
    folder="credit-default",
    downloads=(
        files.Download(
            ("https://archive.ics.uci.edu/static/public/350/data.csv",),
            "45bcf4df62ff2e237a74eb155cabfb4bbbc171219a0637daef44fdad07503dd0",
            (TABLE,),
        ),
    ),
)


def credit() -> Task:
    """A 23-300-100-1 network that ranks clients by how likely they are to default."""
    return Task(
        name="credit",
        model=lambda: networks.mlp((FEATURES, 300, 100, 1)),
        data=_data,
        loss=_loss,
        metric=metrics.auroc,
        metric_name="AUROC",
        optimizer=recipes.adam(1e-3),
        schedule=recipes.linear_decay,
        recipe=Recipe(iterations=1000, batch_size=256, rate=0.2, evaluate_every=100),
        description="credit card default, 23 features, MLP, AUROC",
    )


def _loss(output: Tensor, targets: Tensor) -> Tensor:
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(output.squeeze(1), targets)


def _data(data_dir: Optional[Path]) -> Data:
    """60 % to train on, 20 % each for validation and test, the classes in equal proportions; features standardised
    with the mean and deviation of the training rows."""
    path = files.locate(CREDIT, data_dir)[TABLE]
    _, table = files.read_csv(path, columns=1 + FEATURES + 1, rows=ROWS)
    features, labels = table[:, 1:-1], table[:, -1]
    if not np.isin(labels, (0, 1)).all() or not (features[:, 0] > 0).all():
        raise files.damaged(path, "the last column must be 0 or 1, the second (the credit limit) above 0")
    parts = splits.stratified(labels, (0.6, 0.2, 0.2))
    mean, deviation = features[parts[0]].mean(axis=0), features[parts[0]].std(axis=0)
    standard = (features - mean) / deviation
    return Data(*(splits.split(standard[rows], labels[rows]) for rows in parts))
