"""Run a script or a module as `python` itself would, so that it cannot tell the difference.

Nothing here loads torch or NumPy: the script may set `OMP_NUM_THREADS` and the like before it does.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from seismograd.errors import SeismogradError
from seismograd.exception_origin import is_ours
from seismograd.i18n import say
from seismograd.package_info import PACKAGE_DIR

PACKAGE = f"{PACKAGE_DIR.resolve()}/"
LISTENING = f"{PACKAGE}capture/events.py"


@dataclass(frozen=True, slots=True)
class ScriptProgram:
    """The program to run: its code, its name in `sys.argv[0]`, the first entry of its
    `sys.path`.
    """

    code: CodeType
    filename: str
    path_entry: str
    spec: importlib.machinery.ModuleSpec | None = None


def load_script(script: str) -> ScriptProgram:
    """Read and compile a script (or the `__main__.py` of a folder), or a command of that name, such
    as torchrun.

    Raises:
        SeismogradError: there is no such file, it cannot be read, or it is not Python.
    """
    path = Path(script)
    if path.is_dir():
        if not (path / "__main__.py").is_file():
            raise SeismogradError(
                say("{path} is a directory without a __main__.py", path=script),
                say("give the path of the script to run"),
            )
        return ScriptProgram(_compile(str(path / "__main__.py")), str(path / "__main__.py"), script)
    if not path.exists():
        command = _command(script)
        if command is not None:
            return load_script(command)
        raise SeismogradError(
            say("script {path} does not exist", path=script),
            say("check the path; to run a module, use -m"),
        )
    absolute = os.path.abspath(script)  # noqa: PTH100  links are kept, as the interpreter keeps them
    return ScriptProgram(_compile(absolute), absolute, str(path.resolve().parent))


def find_module(name: str) -> ScriptProgram:
    """Find a module as `python -m` does; this imports its parent packages.

    Raises:
        SeismogradError: there is no such module, or it cannot be run.
    """
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    code: Any = None
    if spec is not None and isinstance(spec.loader, importlib.abc.InspectLoader):
        code = spec.loader.get_code(name)
    if spec is None or code is None or spec.origin is None:
        raise SeismogradError(
            say("no module named {name} was found", name=name),
            say("check the name and the current directory"),
        )
    return ScriptProgram(code, spec.origin, str(Path.cwd()), spec)


def _command(name: str) -> str | None:
    """Return the path of a command that is a Python script, as packages install them."""
    found = shutil.which(name) if name == Path(name).name else None
    if found is None:
        return None
    with suppress(OSError), Path(found).open("rb") as file:
        first = file.readline(256)
        if first.startswith(b"#!") and b"python" in first:
            return found
    return None


def _compile(path: str) -> CodeType:
    try:
        with io.open_code(str(Path(path).resolve())) as file:
            source = file.read()
    except OSError as error:
        raise SeismogradError(
            say("cannot read {path}: {reason}", path=path, reason=error.strerror or str(error))
        ) from error
    try:
        return compile(source, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        where = f"{path}:{error.lineno}" if error.lineno else path
        raise SeismogradError(
            say("{where} is not valid Python: {reason}", where=where, reason=error.msg),
            say("give the path of a Python script"),
        ) from error
    except ValueError as error:  # null bytes
        raise SeismogradError(
            say("{where} is not valid Python: {reason}", where=path, reason=str(error)),
            say("give the path of a Python script"),
        ) from error


def main_module(program: ScriptProgram) -> ModuleType:
    """Return a fresh `__main__` with what the interpreter puts into it."""
    module = ModuleType("__main__")
    module.__dict__.update(
        __builtins__=sys.modules["builtins"],
        __file__=program.filename,
        __cached__=None if program.spec is None else program.spec.cached,
        __package__=None if program.spec is None else program.spec.parent,
        __spec__=program.spec,
        __loader__=importlib.machinery.SourceFileLoader("__main__", program.filename)
        if program.spec is None
        else program.spec.loader,
        __annotations__={},
    )
    return module


def prepare(
    program: ScriptProgram | None, path_entry: str, arguments: Sequence[str], name: str
) -> None:
    """Set `sys.argv` and `sys.path` as the program would find them."""
    sys.argv = [
        program.filename if program is not None and program.spec is not None else name,
        *arguments,
    ]
    if not sys.flags.safe_path:
        sys.path[0] = path_entry


def run_program(program: ScriptProgram) -> None:
    """Run it as `__main__`. Its exceptions go on to the caller; what it leaves running, to the
    interpreter, which knows how to end it.
    """
    module = main_module(program)
    sys.modules["__main__"] = module
    run_code(program.code, module.__dict__)


def run_code(code: CodeType, namespace: dict[str, Any]) -> None:
    """Run the code; tracebacks are cut at this frame."""
    exec(code, namespace)


def without_us(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback as it would be without us: from the program's first frame on, without
    our patches.
    """
    head = trace
    while head is not None and head.tb_frame.f_code is not run_code.__code__:
        head = head.tb_next
    head = trace if head is None else head.tb_next
    while head is not None and head.tb_frame.f_code.co_filename.startswith(PACKAGE):
        head = head.tb_next
    entry = head
    while entry is not None:
        below = entry.tb_next
        while below is not None and below.tb_frame.f_code.co_filename.startswith(PACKAGE):
            below = _behind(below)
        entry.tb_next = below
        entry = below
    return head


def _behind(ours: TracebackType) -> TracebackType | None:
    """Return what follows a frame of ours; where that handles a call, everything it called is ours,
    down to the code that interrupted it.
    """
    below = ours.tb_next
    if ours.tb_frame.f_code.co_filename == LISTENING:
        while below is not None and is_ours(below.tb_frame.f_globals.get("__name__")):
            below = below.tb_next
    return below


def clean(error: BaseException) -> None:
    """Remove our frames from the tracebacks of an exception and of those it came from."""
    chain: BaseException | None = error
    seen: set[int] = set()
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        chain.__traceback__ = without_us(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


def hide_from_traceback() -> None:
    """Make the interpreter show an exception on its way to it without our frames, by whatever hook
    the program set.
    """
    shown_by = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        sys.excepthook = shown_by
        clean(error)
        shown_by(kind, error, error.__traceback__)

    sys.excepthook = show
