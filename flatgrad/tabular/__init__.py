"""Tables: from a CSV file to a trained model in a folder, and from there to predictions.

What `flatgrad train` and `flatgrad predict` do, as functions:

- `table`: reading a CSV file, with errors that say the line;
- `preprocessing`: columns as numbers that a model can take, and a target as what it is to give;
- `model`: the trained model with its preprocessing, its folder, and its predictions;
- `settings`: how to train;
- `training`: a training run; `folds`: its cross-validation; `report`: how good the model is; `folder`: what is written.
"""

from .model import Predictions, TabularModel
from .preprocessing import CategoryColumn, ClassTarget, NumberColumn, NumberTarget, Preprocessing
from .settings import Settings
from .table import Table, read_csv
from .training import prepare, train

__all__ = [
    "CategoryColumn",
    "ClassTarget",
    "NumberColumn",
    "NumberTarget",
    "Predictions",
    "Preprocessing",
    "Settings",
    "Table",
    "TabularModel",
    "prepare",
    "read_csv",
    "train",
]
