"""Notify when a module is imported, however that happens, without importing it."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

LAZY: Any = getattr(importlib.util, "_LazyModule", ())
_FINDER = "_finder"  # in the specs that notify us; no field of a spec has this name


def is_imported(name: str) -> bool:
    """Return whether the module has been executed, to its end and not only promised
    (`LazyLoader`).
    """
    module = sys.modules.get(name)
    return module is not None and not isinstance(module, LAZY) and not _in_the_making(module)


def when_imported(name: str, then: Callable[[], None]) -> None:
    """Call `then` once, as soon as `name` has been imported: at once if it has been already.

    Asking for the module (`importlib.util.find_spec`) is not importing it, and an import that
    fails may be tried again: the finder stays until the module is there.
    """
    if is_imported(name):
        then()
    else:
        sys.meta_path.insert(0, _NotifyingFinder(name, then))


class _NotifyingFinder(importlib.abc.MetaPathFinder):
    """Lets the module be found as usual, and is notified by its loader when it has been executed.

    A finder in front of this one may find the module by itself. That is noticed while it is being
    executed, by what it imports, or at the next import of anything.
    """

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._waiting = [then]
        self._executing = 0

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return what the finders behind this one find, if it is the awaited module."""
        if fullname != self._name:
            self.look()
            return None
        finders = list(sys.meta_path)
        behind = finders[finders.index(self) + 1 :] if self in finders else finders
        for finder in behind:
            find: Any = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._lend(spec, spec.loader)
                return spec
        return None

    def look(self) -> None:
        """Notice a module that was imported without being found here."""
        if self._executing:
            return
        if is_imported(self._name):
            self._notify()
            return
        spec: Any = getattr(_unless_lazy(self._name), "__spec__", None)
        if type(spec) is ModuleSpec and vars(spec).get("_initializing"):
            vars(spec)[_FINDER] = self
            spec.__class__ = _NotifyingSpec

    def execute(self, how: Callable[[Any], Any], module: Any) -> Any:
        """Execute the module as its loader does, and notify when that has succeeded."""
        self._executing += 1
        try:
            result = how(module)
        finally:
            self._executing -= 1
        self._notify()
        return result

    def _lend(self, spec: ModuleSpec, loader: Any) -> None:
        """Have the loader notify us. It stays the object that it is, for everyone who asked for
        it.
        """
        method = "exec_module" if hasattr(loader, "exec_module") else "load_module"
        is_class = isinstance(loader, type)
        try:
            fields = {} if is_class else cast("dict[str, Any]", vars(loader))
            if isinstance(fields.get(method), _Lent):
                return
            if is_class:
                raise TypeError("a class is the loader of many modules")
            setattr(loader, method, _Lent(self, self._name, loader, method))
        except (TypeError, AttributeError):
            if method == "exec_module":
                spec.loader = _NotifyingLoader(self, loader)

    def _notify(self) -> None:
        with suppress(ValueError):
            sys.meta_path.remove(self)
        while self._waiting:
            self._waiting.pop()()


class _Lent:
    """Replaces a method of one loader until that has loaded the module, then restores it."""

    def __init__(self, finder: _NotifyingFinder, name: str, loader: Any, method: str) -> None:
        self._finder, self._name = finder, name
        self._loader, self._method = loader, method

    def __call__(self, module: Any) -> Any:
        own: Any = getattr(cast("Any", type(self._loader)), self._method)
        name = module if isinstance(module, str) else getattr(module, "__name__", None)
        if name != self._name:  # a loader of many modules, as that of a zip file
            return own(self._loader, module)
        vars(self._loader).pop(self._method, None)
        return self._finder.execute(lambda loaded: own(self._loader, loaded), module)


class _NotifyingLoader(importlib.abc.Loader):
    """Replaces a loader whose methods cannot be replaced, until it has loaded the module."""

    def __init__(self, finder: _NotifyingFinder, loader: Any) -> None:
        self._finder, self._loader = finder, loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        make: Callable[[ModuleSpec], ModuleType | None] | None = getattr(
            self._loader, "create_module", None
        )
        return None if make is None else make(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._finder.execute(self._loader.exec_module, module)


class _NotifyingSpec(ModuleSpec):
    """A spec under whose name a module is being created; notifies once when that ends."""

    @property
    def _initializing(self) -> bool:
        return bool(vars(self).get("_initializing"))

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        vars(self)["_initializing"] = value
        if not value:
            finder: _NotifyingFinder | None = vars(self).pop(_FINDER, None)
            cast("Any", self).__class__ = ModuleSpec
            if finder is not None:
                finder.look()


def _unless_lazy(name: str) -> ModuleType | None:
    """Return the module without waking a lazy one, which any access would."""
    module = sys.modules.get(name)
    return None if isinstance(module, LAZY) else module


def _in_the_making(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))
