"""A callback for Lightning's Trainer, as `lightning` or as `pytorch_lightning`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from seismograd.integrations.framework_training import FrameworkTraining, missing

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _base() -> Any:
    """Return the class Callback of the package that the program has imported, else of the one that
    is installed.
    """
    for name in sorted(_PACKAGES, key=lambda each: each not in sys.modules):
        try:
            return import_module(name).Callback
        except ModuleNotFoundError as error:
            if error.name not in (name, name.split(".", maxsplit=1)[0]):
                raise
    raise ImportError(missing("lightning"))


_Base: Any = _base()


class SeismogradCallback(_Base):
    """Records each `fit` of a Trainer, with the options of `seismograd.watch`:

        Trainer(..., callbacks=[SeismogradCallback(out="runs/first", level="light")])

    Raises:
        SeismogradError: an option is not well formed.
        TypeError: there is no such option.
    """

    def __init__(self, **options: Any) -> None:
        self._training = FrameworkTraining("Lightning", options)
        self._key = f"{__name__}.{type(self).__qualname__}{sorted(options.items())!r}"

    @property
    def state_key(self) -> str:
        """Return a key that no other callback has."""
        return self._key

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to record: model and optimizers are prepared, and no step is made."""
        self._training.begin(pl_module, trainer.global_step)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Say which epoch begins."""
        self._training.epoch(trainer.current_epoch)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Finish the record."""
        self._training.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """Finish the record of a training that ends with this exception."""
        self._training.end(exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Finish the record where the tuner has broken off the training."""
        self._training.end()
