"""Finds plugins, keeps what they register, and looks names up without importing anything heavy."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import pluggy

from msiam.errors import PluginError, one_of
from msiam.registry import hookspecs

ENTRY_POINT_GROUP = "msiam"
ALLOW_LIST = "MSIAM_PLUGINS"
HOOKS = {
    "encoder": "msiam_encoders",
    "loss": "msiam_losses",
    "miner": "msiam_miners",
    "source": "msiam_sources",
    "backend": "msiam_backends",
    "evaluator": "msiam_evaluators",
}


@dataclass(frozen=True)
class Spec:
    """One registered name: what it is, where to import it from, and who brought it."""

    kind: str
    name: str
    target: str
    plugin: str
    summary: str = ""
    extra: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import and return the class or function.

        Raises:
            PluginError: its module or one that it needs is not installed, or has no such name.
        """
        module_name, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError, RuntimeError) as error:
            # RuntimeError: how torchvision reports a torch it was not built for.
            raise PluginError(
                f"{self.kind} '{self.name}' (plugin {self.plugin}) does not import: {error}. "
                f"{self._remedy(error)}"
            ) from error

    def _remedy(self, error: Exception) -> str:
        if "torchvision::" in str(error):
            return "Install a torch and a torchvision that match, for example torch 2.15 with torchvision 0.29."
        if self.extra:
            return f"Install what it needs: pip install '{self.extra}'."
        return f"Its target is '{self.target}'."


@dataclass(frozen=True)
class Plugin:
    """One plugin as found: its version, its source, and its error where it failed to import."""

    name: str
    version: str
    source: str
    error: str | None = None


class Registry:
    """The plugins that are installed, and every name that they registered."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self._specs: dict[tuple[str, str], Spec] = {}
        self._manager = pluggy.PluginManager("msiam")
        self._manager.add_hookspecs(hookspecs)

    def add(self, module: ModuleType, name: str, version: str = "", source: str = "") -> None:
        """Register one plugin's module and everything that its hooks name.

        Raises:
            PluginError: a name is taken, or a hook is called in a way that no hook allows.
        """
        try:
            self._manager.register(module, name)
            self._collect(name)
        except (pluggy.PluginValidationError, ValueError, TypeError) as error:
            raise PluginError(f"plugin '{name}' registers something wrong: {error}") from error
        self.plugins.append(Plugin(name, version, source or (module.__file__ or "")))

    def _collect(self, plugin: str) -> None:
        others = [p for n, p in self._manager.list_name_plugin() if n != plugin]
        for kind, hook in HOOKS.items():
            caller = self._manager.subset_hook_caller(hook, others)
            caller(register=self._register(kind, plugin))

    def _register(self, kind: str, plugin: str) -> Any:
        required = {"encoder": {"modality"}, "source": {"suffixes"}}.get(kind, set())
        allowed = required | ({"preset"} if kind == "encoder" else set())

        def register(
            name: str, target: str, *, summary: str = "", extra: str | None = None, **facts: Any
        ) -> None:
            if not required <= facts.keys() <= allowed:
                raise TypeError(
                    f"{kind} '{name}' needs {sorted(required)}, may have {sorted(allowed)}, "
                    f"and was given {sorted(facts)}"
                )
            taken = self._specs.get((kind, name))
            if taken is not None:
                raise PluginError(
                    f"{kind} '{name}' is registered twice, by {taken.plugin} and by {plugin}; "
                    f"leave one out with {ALLOW_LIST}=NAME,NAME"
                )
            self._specs[kind, name] = Spec(kind, name, target, plugin, summary, extra, facts)

        return register

    def discover(self) -> None:
        """Add the core's own plugin and every installed one that the allow-list names."""
        self.add(importlib.import_module("msiam.registry.builtins"), "msiam", _version("msiam"))
        allowed = os.environ.get(ALLOW_LIST)
        wanted = None if allowed is None else {n.strip() for n in allowed.split(",") if n.strip()}
        points = sorted(
            importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name
        )
        for point in points:
            if wanted is not None and point.name not in wanted and point.module not in wanted:
                continue
            dist = point.dist.version if point.dist else ""
            try:
                module = point.load()
            except Exception as error:  # a stranger's import may fail in any way; the rest works
                self.plugins.append(Plugin(point.module, dist, point.value, _one_line(error)))
                continue
            self.add(module, point.module, dist)

    def specs(self, kind: str) -> list[Spec]:
        return sorted((s for s in self._specs.values() if s.kind == kind), key=lambda s: s.name)

    def find(self, kind: str, name: str, where: str = "") -> Spec:
        """The spec of ``name``; ``where`` (a file, a key) begins the message if there is none.

        Raises:
            PluginError: nobody registered that name; the message has the nearest one.
        """
        spec = self._specs.get((kind, name))
        if spec is None:
            broken = [p.name for p in self.plugins if p.error]
            note = f" Set aside, since they do not import: {', '.join(broken)}." if broken else ""
            known = one_of(name, (s.name for s in self.specs(kind)))
            raise PluginError(f"{where + ': ' if where else ''}no {kind} '{name}'; {known}{note}")
        return spec

    def add_commands(self, cli: Any) -> None:
        self._manager.hook.msiam_commands(cli=cli)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@cache
def registry() -> Registry:
    """The registry of this process, with all installed plugins."""
    found = Registry()
    found.discover()
    return found
