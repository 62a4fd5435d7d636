"""msiam plugins: what is installed, and what each plugin adds."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from msiam.cli.console import output, print_json
from msiam.errors import PluginError, one_of
from msiam.registry import Spec, registry
from msiam.registry.registry import HOOKS


def plugins(
    name: Annotated[
        str | None, typer.Argument(help="One encoder, loss, … to see the options of.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Run the conformance tests on what plugins add, or on NAME."),
    ] = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure the size and the speed of encoders here, a second each."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List plugins with their version and source, and the names that they add."""
    if check and measure:
        raise PluginError("plugins: found --check and --measure; give one of them")
    if check:
        run_checks(name, json)
    elif name is not None:
        show_options(name, measure, json)
    elif measure:
        show_measured(json)
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
        state = Text(plugin["source"])
        if plugin["error"]:
            state = Text(f"set aside: {plugin['error']}", style="red")
        table.add_row(plugin["name"], plugin["version"], state)
    output.print(table)
    for kind in HOOKS:
        table = Table(f"\n{kind}", "\nplugin", "\n", box=None, pad_edge=False)
        for spec in found[kind]:
            modality = f"{spec['modality']}: " if "modality" in spec else ""
            table.add_row(spec["name"], spec["plugin"], modality + spec["summary"])
        output.print(table)
    output.print("\nThe options of one: msiam plugins NAME", style="dim")


def show_options(name: str, measured: bool, json: bool) -> None:
    """The options of every spec of that name; of encoders, their size and speed if asked."""
    for spec in named(name):
        rows = options_of(spec)
        size = measured_of(spec) if measured and spec.kind == "encoder" else None
        if json:
            print_json({**describe(spec), "options": rows, **({"measured": size} if size else {})})
            continue
        output.print(f"{spec.kind} {spec.name} ({spec.plugin}): {spec.summary}")
        table = Table("option", "type", "default", "", box=None, pad_edge=False)
        for row in rows:
            default = "(required)" if row["required"] else repr(row["default"])
            table.add_row(row["option"], row["type"], default, row["description"])
        output.print(table)
        if size:
            output.print(f"\n{_in_words(size)}", soft_wrap=True)


def named(name: str) -> list[Spec]:
    """Every spec of that name.

    Raises:
        PluginError: there is none.
    """
    specs = [spec for kind in HOOKS for spec in registry().specs(kind)]
    found = [spec for spec in specs if spec.name == name]
    if not found:
        known = {spec.name for spec in specs}
        raise PluginError(f"nothing is registered as '{name}'; {one_of(name, known)}")
    return found


def measured_of(spec: Spec) -> dict[str, Any]:
    from msiam.cli.measured import measure

    return vars(measure(spec))


def show_measured(json: bool) -> None:
    """Every encoder's size and speed, one after the other."""
    specs = registry().specs("encoder")
    if json:
        print_json([measured_of(spec) for spec in specs])
        return
    for spec in specs:
        output.print(f"{spec.name}: {_in_words(measured_of(spec))}", soft_wrap=True)


def _in_words(size: dict[str, Any]) -> str:
    if size["skipped"]:
        return f"not measured: {size['skipped']}"
    return (
        f"{size['parameters']:,} parameters, d = {size['dim']:,}, "
        f"{size['items_per_second']:,.0f} items/s ({size['device']}), with its default options"
    )


def options_of(spec: Spec) -> list[dict[str, Any]]:
    """The options of a spec; a default is the preset's where that has one."""
    import pydantic_core  # not above: pydantic takes longer to import than plugins to be listed

    options = getattr(spec.load(), "Options", None)
    preset = spec.facts.get("preset") or {}
    rows = []
    for key, field in (options.model_fields if options else {}).items():
        required = field.is_required() and key not in preset
        default = (
            None if required else preset.get(key, field.get_default(call_default_factory=True))
        )
        kind = field.annotation
        rows.append(
            {
                "option": key,
                "type": kind.__name__
                if isinstance(kind, type)
                else str(kind).replace("typing.", ""),
                "default": pydantic_core.to_jsonable_python(default),
                "required": required,
                "description": field.description or "",
            }
        )
    return rows


def run_checks(name: str | None, json: bool) -> None:
    """Hold every spec, or those of a name, against the contract of its kind.

    It exits with 1 where one fails.

    Raises:
        PluginError: nothing has that name, or what has it is of a kind that has no tests.
    """
    from msiam.registry.conformance import check_all, check_named

    if name is None:
        verdicts = check_all(registry())
    else:
        kinds = {spec.kind for spec in named(name)}
        verdicts = check_named(registry(), name)
        if not verdicts:
            raise PluginError(
                f"{' and '.join(sorted(kinds))} {name}: has no conformance tests; leave --check out"
            )
    if json:
        print_json([vars(verdict) for verdict in verdicts])
    for verdict in [] if json else verdicts:
        mark = ("skipped", "yellow") if verdict.skipped else ("ok     ", "green")
        mark = ("fails  ", "red") if verdict.error else mark
        said = verdict.error or verdict.skipped or ""
        line = Text.assemble(mark, f"  {verdict.kind} {verdict.name}  {said}")
        output.print(line, soft_wrap=True)
    if any(verdict.error for verdict in verdicts):
        raise typer.Exit(1)
