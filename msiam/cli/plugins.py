"""msiam plugins: what is installed, and what each plugin adds."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from msiam.cli.console import output, print_json
from msiam.registry import Spec, registry
from msiam.registry.registry import HOOKS


def plugins(
    name: Annotated[
        str | None, typer.Argument(help="One encoder, loss, … to see the options of.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run the conformance tests on what plugins add.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List plugins with their version and source, and the names that they add."""
    if name is not None:
        show_options(name, json)
    elif check:
        run_checks(json)
    elif json:
        print_json(listing())
    else:
        show(listing())


def listing() -> dict[str, Any]:
    """Everything that is registered, as plain data."""
    return {
        "plugins": [vars(plugin) for plugin in registry().plugins],
        **{kind: [describe(spec) for spec in registry().specs(kind)] for kind in HOOKS},
    }


def describe(spec: Spec) -> dict[str, Any]:
    facts = {"plugin": spec.plugin, "summary": spec.summary, "target": spec.target, **spec.facts}
    return {"name": spec.name, **facts}


def show(found: dict[str, Any]) -> None:
    table = Table("plugin", "version", "source", box=None, pad_edge=False)
    for plugin in found["plugins"]:
        state = plugin["source"]
        if plugin["error"]:
            state = f"[red]set aside: {plugin['error']}[/red]"
        table.add_row(plugin["name"], plugin["version"], state)
    output.print(table)
    for kind in HOOKS:
        table = Table(f"\n{kind}", "\nplugin", "\n", box=None, pad_edge=False)
        for spec in found[kind]:
            modality = f"{spec['modality']}: " if "modality" in spec else ""
            table.add_row(spec["name"], spec["plugin"], modality + spec["summary"])
        output.print(table)
    output.print("\nThe options of one: msiam plugins NAME", style="dim")


def show_options(name: str, json: bool) -> None:
    """The options of every spec of that name."""
    from msiam.errors import PluginError, one_of

    specs = [spec for kind in HOOKS for spec in registry().specs(kind) if spec.name == name]
    if not specs:
        known = {spec.name for kind in HOOKS for spec in registry().specs(kind)}
        raise PluginError(f"nothing is registered as '{name}'; {one_of(name, known)}")
    for spec in specs:
        options = getattr(spec.load(), "Options", None)
        fields = options.model_fields if options else {}
        preset = spec.facts.get("preset") or {}
        rows = [
            (
                key,
                str(field.annotation)
                .replace("typing.", "")
                .replace("<class '", "")
                .replace("'>", ""),
                preset.get(key, None if field.is_required() else field.default),
                field.description or "",
            )
            for key, field in fields.items()
        ]
        if json:
            keys = ("option", "type", "default", "description")
            print_json(
                {**describe(spec), "options": [dict(zip(keys, row, strict=True)) for row in rows]}
            )
            continue
        output.print(f"{spec.kind} {spec.name} ({spec.plugin}): {spec.summary}", highlight=False)
        table = Table("option", "type", "default", "", box=None, pad_edge=False)
        for key, kind, default, text in rows:
            table.add_row(key, kind, repr(default), text)
        output.print(table)


def run_checks(json: bool) -> None:
    """Hold every spec against the contract of its kind; exit with 1 where one fails."""
    from msiam.registry.conformance import check_all

    verdicts = check_all(registry())
    if json:
        print_json([vars(verdict) for verdict in verdicts])
    else:
        for verdict in verdicts:
            mark = "[red]fails[/red]" if verdict.error else "[green]ok[/green]"
            output.print(
                f"{mark}  {verdict.kind} {verdict.name}  {verdict.error or ''}", highlight=False
            )
    if any(verdict.error for verdict in verdicts):
        raise typer.Exit(1)
