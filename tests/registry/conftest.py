from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest

from msiam.registry.registry import ALLOW_LIST, Registry, registry


@pytest.fixture
def install(tmp_path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Install a plugin as pip would: its modules in a folder on the path, and its entry point.

    ``install("msiam_birds", hooks, birds=more)``. This process sees it in its next registry, and
    so do the processes that a test starts.
    """
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.delenv(ALLOW_LIST, raising=False)
    registry.cache_clear()

    def install(name: str, hooks: str, *, entry: str | None = None, **modules: str) -> None:
        for module, source in {name: hooks, **modules}.items():
            (folder / f"{module}.py").write_text(textwrap.dedent(source))
        about = folder / f"{name}-1.2.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (about / "entry_points.txt").write_text(f"[msiam]\n{entry or name} = {name}\n")

    yield install
    registry.cache_clear()
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def discover() -> Callable[[], Registry]:
    """A registry with all that is installed now."""

    def discover() -> Registry:
        found = Registry()
        found.discover()
        return found

    return discover


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python in a process of its own: ``process("-m", "msiam.cli")``."""

    def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **environment},
        )

    return process
