"""Finds plugins, keeps what they register, and looks names up without importing anything heavy."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from dataclasses import dataclass, field, replace
from functools import cache
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
_TARGET = re.compile(r"[\w.]+:\w+")


class TakenError(PluginError):
    """Two plugins register one name. Neither is set aside, since nobody knows which is meant."""

    def __init__(self, what: str, first: str, second: str) -> None:
        super().__init__(
            f"{what} is registered twice, by {first} and by {second}; leave one of them out by "
            f"naming all others in {ALLOW_LIST}=NAME,NAME"
        )


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
        except Exception as error:  # a stranger's module may fail in any way
            raise PluginError(
                f"{self.kind} '{self.name}' (plugin {self.plugin}) does not import: "
                f"{' '.join(str(error).split())}. "
                f"{self._remedy(error)}"
            ) from error

    def _remedy(self, error: Exception) -> str:
        if "torchvision::" in str(error):
            return (
                "Install a torch and a torchvision that match, for example torch 2.15 with "
                "torchvision 0.29."
            )
        if self.extra:
            return f"Install what it needs: pip install '{self.extra}'."
        return f"Its target is '{self.target}'."


@dataclass(frozen=True)
class Plugin:
    """One plugin as found: its version, its source, and its error where it was set aside."""

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

    def add(self, module: Any, name: str, version: str = "", source: str = "") -> None:
        """Register one plugin's module and everything that its hooks name, or nothing of it.

        Raises:
            TakenError: another plugin has registered one of the names.
            PluginError: no hook is called that, or none may be called in that way.
        """
        if self._manager.has_plugin(name):
            raise PluginError(f"plugin '{name}' is there already")
        before = dict(self._specs)
        try:
            self._manager.register(module, name)
            self._manager.check_pending()
            for kind, hook in HOOKS.items():
                self._only(name, hook)(register=self._register(kind, name))
        except Exception as error:  # a stranger's hook may fail in any way
            self._specs = before
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            if isinstance(error, PluginError):
                raise
            raise PluginError(
                f"plugin '{name}' registers something wrong: {_one_line(error)}"
            ) from error
        self.plugins.append(Plugin(name, version, source or getattr(module, "__file__", "")))

    def _only(self, plugin: str, hook: str) -> Any:
        """The caller of one plugin's hook."""
        others = [p for name, p in self._manager.list_name_plugin() if name != plugin]
        return self._manager.subset_hook_caller(hook, others)

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
            if not (isinstance(target, str) and _TARGET.fullmatch(target)):
                raise TypeError(
                    f"{kind} '{name}' must say where it is, as 'package.module:Name', and says "
                    f"{target!r}"
                )
            taken = self._specs.get((kind, name))
            if taken is not None:
                raise TakenError(f"{kind} '{name}'", taken.plugin, plugin)
            self._specs[kind, name] = Spec(kind, name, target, plugin, summary, extra, facts)

        return register

    def discover(self) -> None:
        """Add the core's own plugin and every installed one that the allow-list names."""
        self.add(importlib.import_module("msiam.registry.builtins"), "msiam", _version("msiam"))
        allowed = os.environ.get(ALLOW_LIST)
        wanted = None if allowed is None else {n.strip() for n in allowed.split(",") if n.strip()}
        installed = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
        points = {point.value: point for point in sorted(installed, key=lambda p: p.name)}
        for name, point in points.items():
            if wanted is not None and wanted.isdisjoint({point.name, point.module}):
                continue
            version = point.dist.version if point.dist else ""
            try:
                self.add(point.load(), name, version)
            except TakenError:
                raise
            except Exception as error:  # a stranger's import may fail in any way; the rest works
                self.plugins.append(Plugin(name, version, name, _one_line(error)))
        there = {name for point in points.values() for name in (point.name, point.module)}
        for name in sorted((wanted or set()) - there):
            self.plugins.append(Plugin(name, "", ALLOW_LIST, "is not installed"))

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
            note = f" Set aside, see msiam plugins: {', '.join(broken)}." if broken else ""
            if ALLOW_LIST in os.environ:
                note += f" {ALLOW_LIST} allows no plugin but '{os.environ[ALLOW_LIST]}'."
            known = one_of(name, (s.name for s in self.specs(kind)))
            raise PluginError(f"{where + ': ' if where else ''}no {kind} '{name}'; {known}{note}")
        return spec

    def add_commands(self, cli: Any) -> None:
        """Let every plugin add its commands to those that are there; one that fails is set aside.

        Raises:
            TakenError: two commands have one name.
        """
        owners = dict.fromkeys(_commands(cli), "msiam")
        for number, plugin in enumerate(self.plugins):
            if plugin.error:
                continue
            count = len(cli.registered_commands)
            try:
                self._only(plugin.name, "msiam_commands")(cli=cli)
            except Exception as error:  # as when it is imported
                del cli.registered_commands[count:]
                self.plugins[number] = replace(plugin, error=_one_line(error))
            for command in _commands(cli)[len(owners) :]:
                if command in owners:
                    raise TakenError(f"command '{command}'", owners[command], plugin.name)
                owners[command] = plugin.name


def _commands(cli: Any) -> list[str]:
    """The names of a typer application's commands, in the order in which they were added."""
    return [
        command.name or command.callback.__name__.lower().replace("_", "-")
        for command in cli.registered_commands
    ]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"


@cache
def registry() -> Registry:
    """The registry of this process, with all installed plugins."""
    found = Registry()
    found.discover()
    return found
