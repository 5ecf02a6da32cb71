"""The compared ways of inspecting gradients, each beside the same training: ours at each level, and
those of other tools.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from seismograd.bench.models import Workload
from seismograd.capture.probes.update_probe import NUM_DENSE
from seismograd.recording import Recording
from seismograd.schema import Note
from seismograd.settings.levels import LEVELS
from seismograd.settings.recording_options import RecordingOptions

WHOLE_BUDGET = 1.0  # nothing is left out


class Contender:
    """May inspect the gradients between backward and step. This one does not: the bare step."""

    name = "bare"
    num_warm = 0  # steps that cost it more than those which follow

    def __init__(self, workload: Workload) -> None:
        self.parameters: Sequence[torch.nn.Parameter] = [
            p for p in workload.model.parameters() if p.requires_grad
        ]

    def begin(self) -> None:
        """Begin its turn."""

    def look(self) -> None:
        """Inspect the gradients, which are ready."""

    def end(self) -> None:
        """End its turn."""

    def close(self) -> None:
        """Release everything: there are no more turns."""


class GradientReadout(Contender):
    """Calls a function of the parameters."""

    def __init__(
        self,
        workload: Workload,
        name: str,
        function: Callable[[Sequence[torch.nn.Parameter]], object],
    ) -> None:
        super().__init__(workload)
        self.name = name
        self._function = function

    def look(self) -> None:
        """Call it."""
        self._function(self.parameters)


class WatchedTraining(Contender):
    """seismograd with recording and rules. It watches only during its turn."""

    num_warm = NUM_DENSE  # the probe comes in each of the first ones

    def __init__(self, workload: Workload, level: str, folder: Path) -> None:
        super().__init__(workload)
        self.name = f"seismograd, {level}"
        self._recording = Recording(
            folder / level,
            "bench",
            [workload.model],
            [workload.optimizer],
            RecordingOptions(level=level, budget=WHOLE_BUDGET),
        )
        self.end()

    @property
    def failures(self) -> Sequence[Note]:
        """Return what failed in it; the training went on."""
        return self._recording.failures

    def begin(self) -> None:
        """Install the patches."""
        self._recording.resume()

    def end(self) -> None:
        """Remove the patches."""
        self._recording.pause()

    def close(self) -> None:
        """Finish the record."""
        self._recording.close()


class AnomalyMode(Contender):
    """`torch.autograd.set_detect_anomaly`, which looks for NaN in each backward, and says where one
    was made.
    """

    name = "detect_anomaly"

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self._was_on = torch.is_anomaly_enabled()

    def begin(self) -> None:
        """Switch it on."""
        torch.autograd.set_detect_anomaly(True)

    def end(self) -> None:
        """Leave it as it was."""
        torch.autograd.set_detect_anomaly(self._was_on)


class Histograms(Contender):
    """TensorBoard's `add_histogram` of every gradient."""

    name = "TensorBoard add_histogram"

    def __init__(self, workload: Workload, folder: Path) -> None:
        super().__init__(workload)
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))
        self._names = [name for name, p in workload.model.named_parameters() if p.requires_grad]
        self._step = 0

    def look(self) -> None:
        """Add them."""
        self._step += 1
        for name, parameter in zip(self._names, self.parameters, strict=True):
            if parameter.grad is not None:
                self._writer.add_histogram(name, parameter.grad, self._step)

    def close(self) -> None:
        """Finish its file."""
        self._writer.close()


class Wandb(Contender):
    """`wandb.watch(log="gradients")` at every step, offline."""

    name = "wandb.watch"

    def __init__(self, workload: Workload, folder: Path) -> None:
        super().__init__(workload)
        self._wandb: Any = importlib.import_module("wandb")
        self._model = workload.model
        self._run: Any = self._wandb.init(
            mode="offline", dir=str(folder), settings=self._wandb.Settings(silent=True)
        )

    def begin(self) -> None:
        """Install the gradient hooks."""
        self._run.watch(self._model, log="gradients", log_freq=1)

    def look(self) -> None:
        """Log what the hooks saw."""
        self._run.log({})

    def end(self) -> None:
        """Remove the gradient hooks."""
        self._run.unwatch(self._model)

    def close(self) -> None:
        """Finish its run."""
        self._run.finish()


def norm_of_each(parameters: Sequence[torch.nn.Parameter]) -> object:
    """Compute `p.grad.norm().item()` for each."""
    norms: list[Any] = [p.grad.norm() for p in parameters if p.grad is not None]
    return [norm.item() for norm in norms]


def foreach_norm(parameters: Sequence[torch.nn.Parameter]) -> object:
    """Compute all norms in one call, with one transfer."""
    norms: Any = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])  # pyright: ignore
    stacked: Any = torch.stack(list(norms))
    return stacked.tolist()


def clip(parameters: Sequence[torch.nn.Parameter]) -> object:
    """Clip with a limit that does not bind."""
    return torch.nn.utils.clip_grad_norm_(parameters, 1e9)


def contenders(workload: Workload, closing: ExitStack) -> tuple[list[Contender], list[str]]:
    """Yield the bare step first, then everything that this installation has; and the names of those
    that could not begin. They end with `closing`.
    """
    folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="seismograd-bench-")))
    listed: list[Callable[[], Contender]] = [lambda: Contender(workload)]
    listed += [lambda level=level: WatchedTraining(workload, level, folder) for level in LEVELS]
    for name, function in (
        ("norm().item() of each", norm_of_each),
        ("_foreach_norm", foreach_norm),
        ("clip_grad_norm_", clip),
    ):
        listed.append(
            lambda name=name, function=function: GradientReadout(workload, name, function)
        )
    listed.append(lambda: AnomalyMode(workload))
    if _installed("tensorboard"):
        listed.append(lambda: Histograms(workload, folder))
    if _installed("wandb"):
        listed.append(lambda: Wandb(workload, folder))
    found: list[Contender] = []
    failed: list[str] = []
    for make in listed:
        try:
            found.append(make())
            closing.callback(found[-1].close)
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")
    return found, failed


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
