"""A module is heard whatever way it comes in, once, and the script sees its own loaders."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seismograd.import_hook import is_imported, when_imported

NAME = "stand_in_of_torch"
Ways = dict[str, Callable[[Path], None]]


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A package that nobody has imported, and what was heard: whether it was whole each time."""
    package = tmp_path / NAME
    package.mkdir()
    (package / "__init__.py").write_text("from . import part\nVALUE = part.VALUE\n")
    (package / "part.py").write_text("import this_part_of_it\nVALUE = 7\n")
    (tmp_path / "this_part_of_it.py").write_text("")
    (tmp_path / "something_else.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = list(sys.meta_path)
    said: list[bool] = []
    when_imported(NAME, lambda: said.append(getattr(sys.modules[NAME], "VALUE", 0) == 7))
    yield said
    sys.meta_path[:] = before
    for name in (NAME, f"{NAME}.part", "this_part_of_it", "something_else"):
        sys.modules.pop(name, None)


def asked_for(_: Path) -> None:
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert type(spec.loader) is importlib.machinery.SourceFileLoader
    assert importlib.util.find_spec(f"{NAME}_that_is_not_there") is None
    importlib.import_module(NAME)


def asked_for_by_its_part(_: Path) -> None:
    importlib.util.find_spec(f"{NAME}.part")


def in_a_thread(_: Path) -> None:
    thread = threading.Thread(target=importlib.import_module, args=(NAME,))
    thread.start()
    thread.join()


def by_hand(_: Path) -> None:
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)


def lazily(_: Path) -> None:
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    importlib.import_module("something_else")
    assert not is_imported(NAME)
    assert module.VALUE == 7


def after_a_failure(folder: Path) -> None:
    (folder / NAME / "part.py").write_text("raise ImportError('not yet')\n")
    for _ in range(2):
        with pytest.raises(ImportError, match="not yet"):
            importlib.import_module(NAME)
    (folder / NAME / "part.py").write_text("VALUE = 7 # now\n")
    importlib.invalidate_caches()
    importlib.import_module(NAME)


def reloaded(_: Path) -> None:
    importlib.reload(importlib.import_module(NAME))


class InFront(importlib.abc.MetaPathFinder):
    """As import hooks that rewrite code do: finds the module by itself, with a loader of its
    own.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        return found if fullname == NAME else None


def through_a_hook_in_front(_: Path) -> None:
    sys.meta_path.insert(0, InFront())
    importlib.import_module(NAME)


def through_a_hook_behind(_: Path) -> None:
    sys.meta_path.insert(1, InFront())
    importlib.import_module(NAME)


def put_there(_: Path) -> None:
    module = types.ModuleType(NAME)
    module.__dict__["VALUE"] = 7
    sys.modules[NAME] = module
    importlib.import_module("something_else")


def from_a_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "all.zip", "w") as file:
        file.writestr(f"{NAME}/__init__.py", f"from {NAME}.part import VALUE\n")
        file.writestr(f"{NAME}/part.py", "VALUE = 7\n")
        file.writestr("something_else.py", "")
    sys.path.insert(0, str(folder / "all.zip"))
    importlib.util.find_spec(NAME)
    importlib.import_module("something_else")
    importlib.import_module(NAME)
    assert "all.zip" in str(sys.modules[NAME].__file__)


class Slotted:
    """A loader that takes no attributes."""

    __slots__ = ()

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None: ...

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["VALUE"] = 7


class Editable(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(NAME, Slotted()) if fullname == NAME else None  # type: ignore[arg-type]


def from_a_loader_of_its_own(_: Path) -> None:
    sys.meta_path.insert(1, Editable())
    module = importlib.import_module(NAME)
    assert type(module.__loader__) is Slotted
    assert module.__spec__ is not None
    assert type(module.__spec__.loader) is Slotted


WAYS: Ways = {
    way.__name__: way
    for way in (
        asked_for,
        asked_for_by_its_part,
        in_a_thread,
        by_hand,
        lazily,
        after_a_failure,
        reloaded,
        through_a_hook_in_front,
        through_a_hook_behind,
        put_there,
        from_a_zip,
        from_a_loader_of_its_own,
    )
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_it_is_heard_once_when_it_is_whole_and_nothing_stays(
    way: Callable[[Path], None], heard: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    way(tmp_path)
    assert heard == [True]
    assert not [each for each in sys.meta_path if type(each).__module__ == "seismograd.import_hook"]
    spec: Any = sys.modules[NAME].__spec__
    if spec is not None:
        assert type(spec) is importlib.machinery.ModuleSpec
        assert "exec_module" not in getattr(spec.loader, "__dict__", {})


def test_only_asking_is_not_importing(heard: list[bool]) -> None:
    importlib.util.find_spec(NAME)
    importlib.import_module("something_else")
    assert heard == []
    assert not is_imported(NAME)


def test_what_is_there_already_is_told_at_once(heard: list[bool]) -> None:
    importlib.import_module(NAME)
    again: list[int] = []
    when_imported(NAME, lambda: again.append(1))
    assert again == [1]
    assert heard == [True]


TRAIN = """
import torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()
"""


def recorded(folder: Path, text: str, **more: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "seismograd", "run", "--out", "record", "train.py"]
    environment = {**os.environ, "LANGUAGE": "en", "HF_HUB_OFFLINE": "1", **more}
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )


FIRST = {
    "importlib.util": "import importlib.util\nassert importlib.util.find_spec('torch')",
    "pkgutil": "import pkgutil\nassert pkgutil.find_loader('torch')"
    if sys.version_info < (3, 12)
    else "import pkgutil",
    "a function in a thread": "import threading\nt = threading.Thread(target=__import__, "
    "args=('torch.nn',))\nt.start(), t.join()",
    "a lazy module": """
        import importlib.util, sys
        spec = importlib.util.find_spec("torch")
        loader = spec.loader = importlib.util.LazyLoader(spec.loader)
        torch = sys.modules["torch"] = importlib.util.module_from_spec(spec)
        loader.exec_module(torch)
        """,
    "transformers": "import transformers\nfrom transformers import AutoModelForCausalLM, Trainer, "
    "TrainingArguments",
    "datasets": "from datasets import load_dataset",
    "lightning": "import lightning as L",
    "accelerate": "from accelerate import Accelerator",
    "peft": "from peft import LoraConfig, get_peft_model",
    "skorch": "import numpy as np\nfrom sklearn.datasets import make_classification\nfrom skorch "
    "import NeuralNetClassifier",
}
EACH_TIME = ("importlib.util", "a lazy module", "lightning")  # the ways themselves: see WAYS
LIBRARIES = ("transformers", "datasets", "lightning", "accelerate", "peft", "skorch")


@pytest.mark.parametrize(
    "first",
    [pytest.param(name, marks=() if name in EACH_TIME else pytest.mark.extended) for name in FIRST],
)
def test_a_training_is_recorded_whoever_asked_for_torch_before(first: str, tmp_path: Path) -> None:
    if first in LIBRARIES and importlib.util.find_spec(first) is None:
        pytest.skip(f"{first} is not installed")
    ran = recorded(tmp_path, textwrap.dedent(FIRST[first]) + TRAIN)
    assert ran.returncode == 0, ran.stderr
    assert "steps: 3" in ran.stderr


def test_torch_that_came_before_us_is_heard(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import torch\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert "steps: 3" in recorded(tmp_path, TRAIN, PYTHONPATH=path).stderr


def test_torch_that_was_not_heard_is_an_error_said_aloud(tmp_path: Path) -> None:
    deaf = (
        "import sys\nsys.meta_path[:] = [f for f in sys.meta_path if type(f).__module__ != "
        "'seismograd.import_hook']\n"
    )
    ran = recorded(tmp_path, deaf + TRAIN)
    assert ran.returncode == 0
    assert "error: seismograd did not notice the import of torch" in ran.stderr
    assert "never imported" not in ran.stderr
    assert "the script never imported torch" in recorded(tmp_path, "print('no torch')").stderr
