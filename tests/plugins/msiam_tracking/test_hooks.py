"""What the plugin registers: everything can be imported, nothing is imported early."""

import subprocess
import sys

import msiam_tracking

from msiam.registry import Registry

NAMES = {
    "encoder": ["siamfc"],
    "loss": ["score_map"],
    "source": ["track_pairs"],
    "evaluator": ["found"],
}


def test_the_names():
    registry = Registry()
    registry.add(msiam_tracking, "msiam_tracking")
    for kind, names in NAMES.items():
        assert [spec.name for spec in registry.specs(kind)] == names
        for spec in registry.specs(kind):
            assert spec.summary
            fields = spec.load().Options.model_fields.values()
            assert all(field.description for field in fields)


def test_the_hooks_import_nothing_heavy():
    code = (
        "import sys, msiam_tracking, msiam_tracking.command;"
        "print({'torch', 'PIL', 'numpy', 'cv2'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
