"""skorch within scikit-learn's grid search, as in its README: many small nets, one by one."""

from __future__ import annotations

from skorch import NeuralNetClassifier
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import GradientNormClipping

import torch
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense0 = nn.Linear(20, 16)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.dropout(self.dense0(x).relu()))


torch.manual_seed(1)
x, y = make_classification(256, 20, n_informative=10, random_state=0)
x, y = x.astype("float32"), y.astype("int64")
net = NeuralNetClassifier(
    Net,
    criterion=nn.CrossEntropyLoss,
    max_epochs=8,
    batch_size=32,
    lr=0.05,
    iterator_train__shuffle=True,
    callbacks=[("clip", GradientNormClipping(0.5))],
    verbose=0,
)
search = GridSearchCV(net, {"lr": [0.02, 0.1]}, cv=3, scoring="accuracy", refit=True)
search.fit(x, y)
print(search.best_score_.hex(), search.best_params_)
