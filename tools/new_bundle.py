"""Begin a bundle: `python -m tools.new_bundle NAME "what it is, in a line"`.

docs/adding_a_method.md goes on from there. It has the configs that all bundles share, their licence and logging, and
a link to `common`. What the method itself is, its scripts and its keys of the configs, is for its author to write; then
`python -m tools.configs` brings the configs into their form.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from common.errors import InputError, plain_input_errors
from common.files.atomic_write import write_atomic

from .configs import ROOT, TEMPLATES, shared_config

SETTINGS = '''"""What each setting can be."""

from __future__ import annotations

from .common.launch.kinds import Kind
from .common.launch.settings import SHARED, check_settings, unet_fits

SETTINGS: dict[str, Kind] = {**SHARED}


def check() -> None:
    """Refuse settings of the command line that are none; an item of `initialize`, before any other of our own.

    Raises:
        InputError: one line for each.
    """
    check_settings(SETTINGS, [unet_fits])
'''
LABELS = ("background", "liver", "portal_vessel", "stomach", "spleen", "kidney")  # of the sample cohort
SIZE = [48, 40, 48]  # voxels of its planned grid


def new_bundle(repository: Path, name: str, task: str) -> Path:
    """Make `bundles/<name>` and return its folder.

    Args:
        repository: holds `bundles` and `common`.
        name: letters, digits and _.
        task: one line on what it is.

    Raises:
        InputError: another kind of name, or a bundle of that name is there already.
    """
    bundle = repository / "bundles" / name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(f"name is {name!r}; wanted small letters, digits and _, such as few_scribbles")
    if bundle.exists():
        raise InputError(f"{bundle}: is there already; wanted the name of a new bundle")
    for folder in ("configs", "docs", "models", "scripts"):
        (bundle / folder).mkdir(parents=True)
    write_atomic(bundle / "LICENSE", (ROOT / "LICENSE").read_text(encoding="utf-8"))
    write_atomic(bundle / "models" / ".gitkeep", "")
    write_atomic(bundle / "configs" / "logging.conf", (TEMPLATES / "logging.conf").read_text(encoding="utf-8"))
    write_atomic(bundle / "scripts" / "__init__.py", f'"""{task}"""\n')
    write_atomic(bundle / "scripts" / "settings.py", SETTINGS)
    write_atomic(bundle / "docs" / "README.md", f"# {name}\n\n{task}\n")
    (bundle / "scripts" / "common").symlink_to("../../../common")
    write_atomic(bundle / "configs" / "metadata.json", json.dumps(_metadata(name, task), indent=4))
    write_configs(bundle)
    return bundle


def write_configs(bundle: Path) -> None:
    """Write what the templates say into a bundle's configs, which keep their own keys."""
    for template in sorted(TEMPLATES.glob("*.json")):
        write_atomic(bundle / "configs" / template.name, shared_config(bundle, template.name))


def _metadata(name: str, task: str) -> dict[str, object]:
    volume = {"type": "image", "num_channels": 1, "spatial_shape": SIZE, "dtype": "float32", "is_patch_data": False}
    image = {"format": "magnitude", "modality": "any", "value_range": [0, 1], "channel_def": {"0": "image"}}
    channels = {str(number): label for number, label in enumerate(LABELS)}
    pred = {"format": "segmentation", "num_channels": len(LABELS), "value_range": [], "channel_def": channels}
    return {
        "version": "0.1.0",
        "changelog": {"0.1.0": "first version"},
        "name": name,
        "task": task,
        "description": task,
        "references": [],
        "network_data_format": {"inputs": {"image": volume | image}, "outputs": {"pred": volume | pred}},
    }


def main(arguments: list[str] | None = None) -> None:
    """Make the bundle and say what comes next."""
    parser = argparse.ArgumentParser(prog="python -m tools.new_bundle", description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("task", help="one line on what it is")
    given = parser.parse_args(arguments)
    bundle = new_bundle(ROOT, given.name, given.task)
    print(f"{bundle.relative_to(ROOT)}: begun; docs/adding_a_method.md says what it still wants")


if __name__ == "__main__":
    plain_input_errors()
    main()
