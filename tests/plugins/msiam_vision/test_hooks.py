"""What the plugin registers: everything can be imported, nothing is imported early."""

import subprocess
import sys

import msiam_vision
import pytest

from msiam.registry import Registry

NAMES = [
    *("conv4", "efficientnet_lite0", "small_cnn", "time_delay", "torchvision"),
    *msiam_vision.BACKBONES,
]


@pytest.fixture(scope="module")
def registry():
    found = Registry()
    found.add(msiam_vision, "msiam_vision")
    return found


def test_the_names(registry):
    assert [spec.name for spec in registry.specs("encoder")] == sorted(NAMES)
    assert all(spec.summary for spec in registry.specs("encoder"))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_an_image_encoder_with_options(registry, name):
    spec = registry.find("encoder", name)
    cls = spec.load()
    assert cls.modality == spec.facts["modality"] == "image" and cls.reads_files
    preset = spec.facts.get("preset") or ({"model": "resnet18"} if name == "torchvision" else {})
    options = cls.Options(**preset)
    assert all(field.description for field in cls.Options.model_fields.values())
    assert options.size >= 28


def test_the_hooks_import_nothing_heavy():
    code = "import sys, msiam_vision; print({'torch', 'PIL', 'numpy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_only_the_backbones_of_torchvision_need_it():
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import msiam_vision.small_cnn, msiam_vision.efficientnet_lite"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
