"""sbom.cdx.json: a CycloneDX list of the packages that a bundle needs and the foundation weights that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from common.errors import InputError
from common.run.privacy import texts

from .archive import build_time

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

FILE = "sbom.cdx.json"
# by reading each package's licence files; SPDX where it has a name for it
LICENCES = {
    "SimpleITK": "Apache-2.0",
    "matplotlib": "Matplotlib licence (based on the PSF's)",
    "monai": "Apache-2.0",
    "nibabel": "MIT",
    "numpy": "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
    "pydicom": "MIT AND BSD-3-Clause",
    "pytorch-ignite": "BSD-3-Clause",
    "rich": "MIT",
    "safetensors": "Apache-2.0",
    "scipy": "BSD-3-Clause",
    "segment-anything": "Apache-2.0",
    "tensorboard": "Apache-2.0",
    "torch": "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause AND BSD-3-Clause AND BSL-1.0 AND MIT",
}
_BUNDLE_LICENCE = "Apache-2.0"


def required_packages(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the version of each package that configs/metadata.json asks for."""
    packages = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    return {name: metadata[key] for name, key in packages.items()} | metadata["required_packages_version"]


def named_weights(bundle: Path) -> dict[str, list[str]]:
    """Return the configs in which each known foundation model is named as a value: {"mobile_sam": ["train.json"]}."""
    from common.sam.weights.known import KNOWN_WEIGHTS

    found: dict[str, list[str]] = {}
    for path in sorted((bundle / "configs").glob("*.json")):
        named = set(texts(json.loads(path.read_text(encoding="utf-8"))))
        for name in sorted(named & set(KNOWN_WEIGHTS)):
            found.setdefault(name, []).append(path.name)
    return found


def write_sbom(bundle: Path, metadata: Mapping[str, Any], sums: Mapping[str, str]) -> None:
    """Write sbom.cdx.json (CycloneDX 1.6) into the folder of a bundle.

    It holds no time, unless SOURCE_DATE_EPOCH names one, and its serial number comes from the files' sums: equal files
    give equal bytes.

    Args:
        sums: sha256 of every other file, by its path in the bundle.

    Raises:
        InputError: a required package whose licence `LICENCES` doesn't know.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    versions = required_packages(metadata)
    unknown = sorted(set(versions) - set(LICENCES))
    if unknown:
        raise InputError(f"{bundle.name}: licence of {', '.join(unknown)} unknown; wanted it in tools/packing/sbom.py")
    content = "".join(f"{sums[name]} {name}\n" for name in sorted(sums))
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, f"{bundle.name}@{metadata['version']}\n{content}"))
    seconds = build_time()
    timestamp = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    bom.metadata.timestamp = timestamp  # type: ignore[assignment]  # None is taken, whatever cyclonedx' annotation says
    whole = _bundle(bundle.name, metadata, sums)
    bom.metadata.component = whole
    parts = [_package(name, version) for name, version in sorted(versions.items())]
    parts += [_weights(name, configs) for name, configs in named_weights(bundle).items()]
    bom.components.update(parts)
    bom.register_dependency(whole, parts)
    (bundle / FILE).write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n", encoding="utf-8")


def _bundle(name: str, metadata: Mapping[str, Any], sums: Mapping[str, str]) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    models = [
        Component(
            name=path,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref=f"{name}/{path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sums[path])],
        )
        for path in sorted(sums)
        if path.startswith("models/")
    ]
    return Component(
        name=name,
        version=metadata["version"],
        type=ComponentType.APPLICATION,
        bom_ref=name,
        description=metadata.get("task"),
        copyright=metadata.get("copyright"),
        licenses=_licences(_BUNDLE_LICENCE),
        components=models,
    )


def _package(name: str, version: str) -> Component:
    from cyclonedx.model.component import Component, ComponentScope
    from packageurl import PackageURL

    purl = PackageURL("pypi", name=name.lower(), version=version)
    return Component(
        name=name,
        version=version,
        purl=purl,
        bom_ref=purl.to_string(),
        scope=ComponentScope.REQUIRED,
        licenses=_licences(LICENCES[name]),
    )


def _weights(name: str, configs: list[str]) -> Component:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
    from cyclonedx.model.component import Component, ComponentScope, ComponentType

    from common.sam.weights.known import KNOWN_WEIGHTS

    weights = KNOWN_WEIGHTS[name]
    facts = {"bundle:named_in": ", ".join(configs), "bundle:file": weights.file_name, "bundle:packed": "false"}
    if weights.carrier is not None:
        facts["bundle:carried_by"] = weights.carrier.requirement
    page = "https://" + re.split(r"[\s,]", weights.origin)[0]
    return Component(
        name=name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"weights:{name}",
        scope=ComponentScope.OPTIONAL,
        description=f"foundation weights, not part of this package; from {weights.origin}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=weights.sha256)] if weights.sha256 else [],
        licenses=_licences(weights.licence),
        external_references=[ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(page))],
        properties=[Property(name=key, value=value) for key, value in facts.items()],
    )


def _licences(text: str) -> list:
    from cyclonedx.contrib.license.factories import LicenseFactory

    return [LicenseFactory().make_from_string(text)]
