"""Plugins: what they may add (hookspecs) and how they are found (registry)."""

from msiam.registry.hookspecs import hookimpl
from msiam.registry.registry import Plugin, Registry, Spec, registry

__all__ = ["Plugin", "Registry", "Spec", "hookimpl", "registry"]
