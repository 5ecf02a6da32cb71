"""A callback for `transformers.Trainer`."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

from seismograd.capture.hooks.replace_attribute import pass_over
from seismograd.integrations.framework_training import FrameworkTraining, missing

try:
    _transformers: Any = import_module("transformers")
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise ImportError(missing("transformers")) from error

_Base: Any = _transformers.TrainerCallback


class SeismogradCallback(_Base):
    """Records each training of a Trainer, with the options of `seismograd.watch`:

        Trainer(..., callbacks=[SeismogradCallback(out="runs/first", level="light")])

    Raises:
        SeismogradError: an option is not well formed.
        TypeError: there is no such option.
    """

    def __init__(self, **options: Any) -> None:
        self._training = FrameworkTraining("Trainer", options)
        self._epoch = 0
        _follow_exceptions(_transformers.Trainer)

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **given: Any) -> None:
        """Begin to record: model and optimizer are prepared, and no step is made."""
        self._epoch = int(state.epoch or 0)
        self._training.begin(given["model"], state.global_step)

    def on_epoch_begin(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Say which epoch begins: counted, because `state.epoch` is a share of all steps where the
        dataset has no length.
        """
        self._training.epoch(self._epoch)
        self._epoch += 1

    def on_train_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Finish the record."""
        self._training.end()

    def training_raised(self, error: BaseException) -> None:
        """Finish the record of a training that ends with this exception."""
        self._training.end(error)


def _follow_exceptions(trainer_class: Any) -> None:
    """Have `Trainer.train` tell the callback when it raises, for which there is no event."""
    original = trainer_class.train
    if getattr(original, "tells_seismograd", False):
        return

    @functools.wraps(original)
    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, SeismogradCallback):
                    callback.training_raised(error)
            raise

    train.tells_seismograd = True  # pyright: ignore[reportAttributeAccessIssue]
    pass_over(train)
    trainer_class.train = train
