"""Imports run downward only: the layers, held by reading every import of the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import msiam

ROOT = Path(__file__).parents[1]

#: From the lowest to the highest. A module imports from its own layer and from those below it.
LAYERS = [
    {"errors"},
    {"paths", "progress", "registry"},
    {"recipe", "recipe_data", "losses"},
    {"towers"},
    {"data", "mining", "evaluation", "gallery"},
    # It tests the contracts of all that is below. Only the command line and tests import it.
    {"registry.conformance"},
    {"training"},
    {"run", "embedding", "demo"},
    {"serving", "cli"},
    {"__main__"},
]
RANKS = {f"msiam.{name}": rank for rank, layer in enumerate(LAYERS) for name in layer}
MOST_LINES = 300


class Import(NamedTuple):
    """One imported module. ``early``: at the import of the module that imports it."""

    module: str
    names: tuple[str, ...]
    early: bool


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    """All imports of a file, but for those that only a type checker sees."""

    def walk(node: ast.AST, early: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), early)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield Import(node.module or "", tuple(alias.name for alias in node.names), early)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, early and not inside)

    return walk(ast.parse(path.read_text(encoding="utf-8")), True)


def rank(module: str) -> int | None:
    """The layer of a module: that of the longest name in LAYERS which it begins with.

    What ``msiam`` itself exports goes up to ``msiam.run``.
    """
    if module == "msiam":
        return RANKS["msiam.run"]
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((RANKS[name] for name in names if name in RANKS), None)


SOURCES = {module_name(p, ROOT): p for p in sorted((ROOT / "msiam").rglob("*.py"))}
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))


def inner(path: Path) -> Iterator[tuple[str, bool]]:
    """The modules of msiam that a file imports. ``from package import module`` is the module."""
    for module, names, early in imports(path):
        if module.split(".")[0] == "msiam":
            inside = [f"{module}.{name}" for name in names if f"{module}.{name}" in SOURCES]
            yield from ((name, early) for name in inside)
            if len(inside) < len(names) or not names:
                yield module, early


def test_every_module_has_its_layer():
    assert [name for name in SOURCES if rank(name) is None] == []


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "msiam"])
def test_imports_run_downward_only(name):
    for imported, _ in inner(SOURCES[name]):
        other = rank(imported)
        assert other is not None, f"{name} imports {imported}, which is in no layer"
        assert other <= rank(name), f"{name} imports {imported}, which is above it"


def test_nothing_is_imported_in_a_circle():
    graph = {
        name: {other for other, early in inner(path) if early and other != name}
        for name, path in SOURCES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_importing_msiam_imports_nothing_of_it():
    assert [module for module, early in inner(SOURCES["msiam"]) if early] == []


def test_only_the_command_line_imports_the_conformance_tests():
    conformance = "msiam.registry.conformance"
    for name, path in SOURCES.items():
        if not name.startswith((conformance, "msiam.cli")):
            assert not any(module.startswith(conformance) for module, _ in inner(path)), name


@pytest.mark.parametrize("name", SOURCES)
def test_the_core_imports_no_plugin(name):
    foreign = [module for module, *_ in imports(SOURCES[name]) if module.startswith("msiam_")]
    assert foreign == []


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: module_name(path, ROOT / "plugins"))
def test_a_plugin_imports_only_what_msiam_exports(path):
    own = path.relative_to(ROOT / "plugins").parts[0]
    for module, names, _ in imports(path):
        if module == "msiam":
            assert set(names) <= set(msiam.__all__)
            assert names, "write: from msiam import …"
        else:
            assert not module.startswith("msiam.")
            assert not module.startswith("msiam_") or module.split(".")[0] == own


@pytest.mark.parametrize(
    "path", [*SOURCES.values(), *PLUGINS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_file_that_passes_300_lines_is_asking_to_be_two(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", msiam.__all__)
def test_everything_that_is_exported_is_there_and_is_what_a_type_checker_sees(name):
    assert getattr(msiam, name) is not None
    tree = ast.parse(SOURCES["msiam"].read_text())
    checked = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    home = "msiam" if name == "errors" else msiam._HOME[name]
    assert checked[name] == home


def test_what_is_not_exported_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'msiam' has no attribute 'lstm'"):
        msiam.lstm  # noqa: B018 (asking for it is the test)
