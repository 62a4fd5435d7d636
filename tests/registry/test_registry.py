from __future__ import annotations

import json
import types

import pytest

from msiam.errors import PluginError
from msiam.registry import Registry, Spec, hookimpl
from msiam.registry.registry import TakenError

CLI = "from msiam.cli import main; main()"
GOOD = """
    from msiam import hookimpl

    @hookimpl
    def msiam_losses(register):
        register("drift", "drift:Drift", summary="how far apart")
"""


def plugin(registry: Registry, name: str):
    (found,) = [p for p in registry.plugins if p.name == name]
    return found


def module(**functions) -> types.ModuleType:
    """A plugin's module with these hooks."""
    made = types.ModuleType("made")
    for name, function in functions.items():
        setattr(made, name, hookimpl(function))
    return made


# ---- What is found


def test_a_plugin_is_listed_with_version_and_source(install, discover, tmp_path):
    install("msiam_birds", GOOD)
    found = plugin(discover(), "msiam_birds")
    assert (found.version, found.error) == ("1.2", None)
    assert found.source == str(tmp_path / "site" / "msiam_birds.py")


def test_the_core_registers_through_the_same_hooks(discover):
    registry = discover()
    assert registry.plugins[0].name == "msiam"
    assert {"contrastive", "infonce", "triplet"} <= {s.name for s in registry.specs("loss")}
    assert registry.find("backend", "faiss").plugin == "msiam"


def test_names_come_in_alphabetical_order(discover):
    names = [spec.name for spec in discover().specs("loss")]
    assert names == sorted(names)


def test_every_registered_target_of_the_core_is_there(discover):
    registry = discover()
    for kind in ("loss", "miner", "source", "backend", "evaluator"):
        for spec in registry.specs(kind):
            if spec.plugin == "msiam":
                assert callable(spec.load())


def test_two_entry_points_of_one_module_are_one_plugin(install, discover, tmp_path):
    install("msiam_birds", GOOD)
    points = tmp_path / "site" / "msiam_birds-1.2.dist-info" / "entry_points.txt"
    points.write_text("[msiam]\nbirds = msiam_birds\nfowl = msiam_birds\n")
    assert plugin(discover(), "msiam_birds").error is None


def test_nothing_heavy_is_imported_to_import_msiam_or_to_list_plugins(install, process):
    install("msiam_birds", GOOD)
    code = """
import sys
import msiam
from msiam.registry import registry
from msiam.cli.plugins import listing
dir(msiam), listing()
heavy = "torch numpy datasets transformers faiss pandas pyarrow matplotlib PIL tokenizers"
print([name for name in heavy.split() if name in sys.modules])
"""
    done = process("-c", code)
    assert done.stdout == "[]\n", done.stderr


def test_the_command_line_lists_plugins(install, process):
    install("msiam_birds", GOOD)
    found = json.loads(process("-c", CLI, "plugins", "--json").stdout)
    assert {p["name"] for p in found["plugins"]} >= {"msiam", "msiam_birds"}
    (drift,) = [loss for loss in found["loss"] if loss["name"] == "drift"]
    assert drift["plugin"] == "msiam_birds"
    shown = process("-c", CLI, "plugins").stdout
    assert "msiam_birds" in shown
    assert "how far apart" in shown


# ---- What goes wrong in a plugin


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("def (", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('a\\nb')", "RuntimeError: a b"),
        (GOOD.replace("msiam_losses", "msiam_loss"), "unknown hook 'msiam_loss'"),
        (GOOD.replace("(register)", "(registry)"), "hookimpl definition"),
        (GOOD.replace('"drift:Drift"', '"drift"'), "as 'package.module:Name', and says 'drift'"),
        (GOOD.replace('"drift:Drift"', "dict"), "says <class 'dict'>"),
        (GOOD.replace("summary", "modality"), "loss 'drift' needs [], may have []"),
        (GOOD.replace("msiam_losses", "msiam_encoders"), "encoder 'drift' needs ['modality']"),
        (GOOD.replace("register(", "1 / 0, register("), "ZeroDivisionError"),
    ],
)
def test_a_plugin_that_fails_is_set_aside_and_the_rest_works(install, discover, source, said):
    install("msiam_good", GOOD.replace("drift", "good"))
    install("msiam_bad", source)
    registry = discover()
    bad = plugin(registry, "msiam_bad")
    assert bad.error is not None
    assert said in bad.error
    assert "\n" not in bad.error
    assert bad.version == "1.2"
    assert registry.find("loss", "good").plugin == "msiam_good"
    assert "drift" not in {spec.name for spec in registry.specs("loss")}


def test_of_a_plugin_that_fails_half_way_nothing_is_kept(install, discover):
    install("msiam_bad", GOOD + "        register('more', 'no target')\n")
    registry = discover()
    assert "says 'no target'" in str(plugin(registry, "msiam_bad").error)
    assert "drift" not in {spec.name for spec in registry.specs("loss")}


def test_the_command_line_shows_what_was_set_aside_and_goes_on(install, process):
    install("msiam_bad", "raise RuntimeError('wrong [/colour]')")
    done = process("-c", CLI, "plugins")
    assert done.returncode == 0
    assert "set aside: RuntimeError: wrong [/colour]" in " ".join(done.stdout.split())
    assert "infonce" in done.stdout


@pytest.mark.parametrize("name", ["drift", "infonce"])
def test_a_name_registered_twice_names_both_packages(install, discover, name):
    install("msiam_birds", GOOD)
    install("msiam_fish", GOOD.replace("drift", name))
    with pytest.raises(PluginError) as raised:
        discover()
    other = "msiam_birds" if name == "drift" else "msiam"
    message = str(raised.value)
    assert message.startswith(f"loss '{name}' is registered twice, by {other} and by msiam_fish; ")
    assert "MSIAM_PLUGINS=NAME,NAME" in message


def test_on_the_command_line_a_name_registered_twice_is_one_line(install, process):
    install("msiam_birds", GOOD)
    install("msiam_fish", GOOD)
    done = process("-c", CLI, "plugins")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("msiam: loss 'drift' is registered twice")
    assert done.stderr.count("\n") == 1
    alone = process("-c", CLI, "plugins", MSIAM_PLUGINS="msiam_fish")
    assert alone.returncode == 0
    assert "msiam_fish" in alone.stdout


def test_one_name_may_be_of_two_kinds():
    registry = Registry()
    registry.add(
        module(
            msiam_losses=lambda register: register("hard", "a:A"),
            msiam_miners=lambda register: register("hard", "b:B"),
        ),
        "mine",
    )
    assert registry.find("loss", "hard").target == "a:A"
    assert registry.find("miner", "hard").target == "b:B"


# ---- The allow-list

LOUD = """
    import os
    from pathlib import Path
    Path(os.environ["LOUD"]).touch()
"""


@pytest.mark.parametrize(
    ("allowed", "imported"),
    [
        ("", False),
        ("msiam_birds", False),
        ("msiam_loud", True),
        ("loud", True),
        (" msiam_birds , loud ", True),
        (None, True),
    ],
)
def test_the_allow_list_is_read_before_anything_is_imported(
    install, discover, monkeypatch, tmp_path, allowed, imported
):
    monkeypatch.setenv("LOUD", str(tmp_path / "heard"))
    if allowed is not None:
        monkeypatch.setenv("MSIAM_PLUGINS", allowed)
    install("msiam_loud", LOUD, entry="loud")
    install("msiam_birds", GOOD)
    names = {p.name for p in discover().plugins}
    assert (tmp_path / "heard").exists() is imported
    assert ("msiam_loud" in names) is imported
    assert "msiam" in names  # the core is always there


def test_the_allow_list_holds_in_a_process_of_its_own(install, process, tmp_path):
    install("msiam_loud", LOUD)
    heard = tmp_path / "heard"
    quiet = process("-c", CLI, "plugins", LOUD=str(heard), MSIAM_PLUGINS="lstm")
    assert quiet.returncode == 0
    assert not heard.exists()
    process("-c", CLI, "plugins", LOUD=str(heard))
    assert heard.exists()


def test_an_allowed_plugin_that_is_not_installed_is_listed_so(discover, monkeypatch):
    monkeypatch.setenv("MSIAM_PLUGINS", "msiam_fihs")
    registry = discover()
    assert plugin(registry, "msiam_fihs").error == "is not installed"
    with pytest.raises(PluginError, match="Set aside, see msiam plugins: msiam_fihs"):
        registry.find("encoder", "fish")


def test_what_the_allow_list_leaves_out_is_not_a_riddle(install, discover, monkeypatch):
    install("msiam_birds", GOOD)
    monkeypatch.setenv("MSIAM_PLUGINS", "lstm")
    with pytest.raises(PluginError, match="MSIAM_PLUGINS allows no plugin but 'lstm'"):
        discover().find("loss", "drift")


# ---- Names are looked up, and targets imported


def test_an_unknown_name_gives_the_nearest_and_where_it_stands(discover):
    with pytest.raises(PluginError) as raised:
        discover().find("loss", "infonse", "quora.yaml: loss.name")
    message = str(raised.value)
    assert message.startswith("quora.yaml: loss.name: no loss 'infonse'; did you mean 'infonce'?")


def test_an_unknown_name_tells_which_plugins_were_set_aside(install, discover):
    install("msiam_bad", "import no_such_package")
    with pytest.raises(PluginError, match="Set aside, see msiam plugins: msiam_bad"):
        discover().find("encoder", "bad")


@pytest.mark.parametrize(
    ("target", "extra", "said"),
    [
        ("no_such_package.x:Y", None, "No module named 'no_such_package'. Its target is 'no_s"),
        ("no_such_package:Y", "msiam-birds[all]", "pip install 'msiam-birds[all]'."),
        ("msiam.errors:NoSuch", None, "has no attribute 'NoSuch'. Its target is 'msiam.errors"),
        ("mismatched:Y", None, "Install a torch and a torchvision that match"),
        ("broken:Y", None, "does not import: oh no."),
    ],
)
def test_a_target_that_does_not_import_says_what_to_do(install, target, extra, said):
    install(
        "msiam_birds",
        GOOD,
        mismatched="raise RuntimeError('operator torchvision::nms\\ndoes not exist')",
        broken="raise OSError('oh\\nno')",
    )
    with pytest.raises(PluginError) as raised:
        Spec("encoder", "x", target, "msiam_birds", extra=extra).load()
    message = str(raised.value)
    assert message.startswith("encoder 'x' (plugin msiam_birds) does not import: ")
    assert said in message
    assert "\n" not in message


# ---- Commands

COMMAND = """
    from msiam import hookimpl

    @hookimpl
    def msiam_commands(cli):
        @cli.command()
        def NAME() -> None:
            print("here")
        LAST
"""


@pytest.mark.parametrize("name", ["plugins", "count_birds"])
def test_a_command_registered_twice_names_both_packages(install, process, name):
    install("msiam_birds", COMMAND.replace("NAME", "count_birds").replace("LAST", ""))
    install("msiam_fish", COMMAND.replace("NAME", name).replace("LAST", ""))
    done = process("-c", CLI, "--help")
    other = "msiam" if name == "plugins" else "msiam_birds"
    command = name.replace("_", "-")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"msiam: command '{command}' is registered twice, by {other} and by msiam_fish; "
    )


def test_a_plugin_whose_commands_fail_is_set_aside(install, process):
    install("msiam_birds", COMMAND.replace("NAME", "count_birds").replace("LAST", "1 / 0"))
    done = process("-c", CLI, "plugins")
    assert done.returncode == 0
    assert "set aside: ZeroDivisionError" in done.stdout
    assert process("-c", CLI, "count-birds").returncode == 2


# ---- The registry by itself


def test_a_module_may_be_added_by_hand_and_only_once():
    registry = Registry()
    registry.add(module(msiam_losses=lambda register: register("a", "a:A")), "mine", "3")
    assert registry.find("loss", "a").plugin == "mine"
    with pytest.raises(PluginError, match="plugin 'mine' is there already"):
        registry.add(module(), "mine")


def test_what_was_refused_may_be_added_again_when_it_is_mended():
    registry = Registry()
    registry.add(module(msiam_losses=lambda register: register("a", "a:A")), "first")
    with pytest.raises(TakenError):
        registry.add(module(msiam_losses=lambda register: register("a", "b:B")), "second")
    registry.add(module(msiam_losses=lambda register: register("b", "b:B")), "second")
    assert [spec.plugin for spec in registry.specs("loss")] == ["first", "second"]
