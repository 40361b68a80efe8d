"""A generated cohort of abdomen-like scans: the data set of every bundle's first run. Nothing in it is a patient's.

One template anatomy, given by smooth implicit functions, is carried into each case by a random affine map and the flow
of a random smooth velocity field, so that all cases share one topology and a registration between any two exists.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from ..errors import InputError
from ..files.temporary import remove_leftovers, temporary_beside
from .presence import derive_slice_labels, ras_axes, slice_labels_entry

LABELS = {"0": "background", "1": "liver", "2": "portal_vessel", "3": "stomach", "4": "spleen", "5": "kidney"}
VERSION = 2  # raise it when the same arguments give other files; folders of an earlier version are made anew
FLOW_GRID, FLOW_REACH = 40, 1.4  # the velocity field's nodes per axis, and how far it reaches in template units
AXIS_CODES = ("LPS", "RAS", "LAS", "RPI", "PSR")
NOMINAL_SPACING = 1.75  # mm; spatial_size counts voxels of this size


def make_sample_cohort(
    folder: str | os.PathLike,
    seed: int = 0,
    num_training: int = 21,
    num_validation: int = 2,
    num_test: int = 6,
    spatial_size: tuple[int, int, int] = (64, 56, 48),
) -> Path:
    """Generate the synthetic cohort into `folder`, unless it is already there, and return the folder.

    Files: `dataset.json` (MSD layout, a label for every case, typical `locations` of the labels), int16 images and
    uint8 labels as .nii.gz, and axial `slice_labels` of the training cases as .json. Voxels are 1.5 to 2 mm, axis
    codes, obliqueness and size vary from case to case; `spatial_size` is the extent in voxels of 1.75 mm before that
    variation. Above and below the organs slices are empty: on each organ's slices it is about a third to a half of
    all. The same arguments give the same bytes. The folder appears whole or not at all: it is built beside its place
    and renamed, so that processes may race; missing files of a damaged cohort are put back.

    Raises:
        InputError: on counts or sizes that make no cohort, where the folder holds another data set or can't be written.
    """
    problems = [
        f"make_sample_cohort: {name} is {value}, wanted {least} or more"
        for name, value, least in [
            ("seed", seed, 0),
            ("num_training", num_training, 1),
            ("num_validation", num_validation, 0),
            ("num_test", num_test, 0),
            ("smallest spatial_size", min(spatial_size), 16),
        ]
        if value < least
    ]
    if problems:
        raise InputError(problems)
    counts = {"training": num_training, "validation": num_validation, "test": num_test}
    generator = {"version": VERSION, "seed": seed, **counts, "spatial_size": list(spatial_size)}
    folder = Path(folder).expanduser().absolute()
    if _is_complete(folder, generator):
        return folder
    building = temporary_beside(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.parent, depth=0)
        building.mkdir()
        _write_cohort(building, generator)
        _move_into_place(building, folder)
    except OSError as error:
        raise InputError(f"{folder}: can't be written ({error.strerror}); wanted another dataset_dir") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def sample_dataset_dir(folder: str | os.PathLike) -> str:
    """Return `folder` as a string, with a sample cohort in it: the one found there, else the default one, made now."""
    folder = Path(folder).expanduser().absolute()
    if _is_complete(folder):
        return str(folder)
    given = {}
    if (folder / "dataset.json").exists():  # damaged, or of an earlier version: the same cohort again
        found = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["generator"]
        given = {f"num_{part}": found[part] for part in ("training", "validation", "test")}
        given |= {"seed": found["seed"], "spatial_size": tuple(found["spatial_size"])}
    return str(make_sample_cohort(folder, **given))


def _is_complete(folder: Path, generator: dict | None = None) -> bool:
    """Whether `folder` holds a whole generated cohort (made with these arguments, where `generator` is given)."""
    file = folder / "dataset.json"
    if not file.exists():
        others = [path.name for path in folder.glob("[!.]*")] if folder.is_dir() else []
        if others:
            raise InputError(f"{folder}: found {others[0]} but no dataset.json, wanted an empty folder or none")
        return False
    try:
        dataset = json.loads(file.read_text(encoding="utf-8"))
        found = dataset["generator"]
        current = found["version"] == VERSION
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: found a data set that is not a generated one, wanted an empty folder") from error
    if generator is not None and found | {"version": VERSION} != generator:
        raise InputError(
            f"{file}: found the sample cohort {found}, wanted {generator}; delete it or choose another folder"
        )
    cases = [case for part in ("training", "validation", "test") for case in dataset[part]]
    files = [folder / case[key] for case in cases for key in ("image", "label", "slice_labels") if key in case]
    return current and all(file.is_file() and file.stat().st_size > 0 for file in files)


def _move_into_place(building: Path, folder: Path) -> None:
    """Rename `building` to `folder`; where the folder has something in it, add the files one by one, the index last."""
    try:
        os.rename(building, folder)  # also onto an empty folder
        return
    except OSError:
        if not folder.is_dir():
            raise
    files = sorted(path.relative_to(building) for path in building.rglob("*") if path.is_file())
    for file in sorted(files, key=lambda path: path.name == "dataset.json"):
        (folder / file).parent.mkdir(exist_ok=True)
        os.replace(building / file, folder / file)


def _write_cohort(folder: Path, generator: dict) -> None:
    dataset: dict[str, Any] = {
        "name": "Synthetic abdomen (sample cohort)",
        "description": "synthetic, made by common/data/sample.py from no patient's data; organ names are likenesses",
        "reference": "common/data/sample.py",
        "licence": "Apache-2.0",
        "modality": {"0": "synthetic MRI"},
        "labels": LABELS,
        "locations": nominal_locations(tuple(generator["spatial_size"])),
        "generator": generator,
    }
    index = 0
    for part, suffix in (("training", "Tr"), ("validation", "Tr"), ("test", "Ts")):
        dataset[part] = []
        for _ in range(generator[part]):
            image, label, affine = make_case(index, generator["seed"], tuple(generator["spatial_size"]))
            case = {}
            for key, volume in (("image", image), ("label", label)):
                case[key] = f"{key}s{suffix}/sample_{index:03d}.nii.gz"
                (folder / case[key]).parent.mkdir(exist_ok=True)
                nifti = nib.Nifti1Image(volume, affine)
                nifti.set_sform(affine, code=1)
                nifti.set_qform(affine, code=1)
                nifti.header.set_xyzt_units("mm", "sec")
                nib.save(nifti, folder / case[key])
            if part == "training":
                bits = derive_slice_labels(label, ras_axes(affine).index(2), map(int, LABELS))
                case["slice_labels"] = f"slice_labels/sample_{index:03d}.json"
                (folder / "slice_labels").mkdir(exist_ok=True)
                (folder / case["slice_labels"]).write_text(json.dumps(slice_labels_entry(bits, map(int, LABELS))))
            dataset[part].append(case)
            index += 1
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1) + "\n")


def make_case(index: int, seed: int, spatial_size: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one case: image int16 [H,W,D], label uint8 [H,W,D], affine float64 [4,4] (voxel to mm, RAS)."""
    random = np.random.default_rng([seed, index])
    half_extent = np.asarray(spatial_size) * NOMINAL_SPACING / 2  # mm
    shape, affine = _geometry(random, index, half_extent)
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)  # [H,W,D,3]
    points = (voxels @ affine[:3, :3].T + affine[:3, 3] - _CENTRE) / half_extent  # template units
    voxel = float(np.mean(np.abs(np.linalg.norm(affine[:3, :3], axis=0)) / half_extent))
    surfaces = _anatomy(_deform(random, points))
    return _acquire(random, surfaces, points, voxel), _paint(surfaces, shape), affine


def nominal_locations(spatial_size: tuple[int, int, int]) -> dict[str, dict]:
    """Return each label's box in the template, as fractions of the image along R and A, and its volume in ml.

    It is what a user would say once of a data set; no case's mask is looked at. Along S, where slice labels say more,
    the box is open.
    """
    axes = [(2 * np.arange(n) + 1) / n - 1 for n in spatial_size]
    label = _paint(_anatomy(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)), spatial_size)
    locations = {}
    for value in (value for value in LABELS if value != "0"):
        where = np.argwhere(label == int(value))
        box = np.stack([where.min(0), where.max(0) + 1], axis=1) / np.asarray(spatial_size)[:, None]
        box[2] = 0, 1
        volume = len(where) * NOMINAL_SPACING**3 / 1000
        locations[value] = {"box": box.round(2).tolist(), "volume_ml": round(volume, 1)}
    return locations


def _paint(surfaces: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    for value in (1, 3, 4, 5, 2):  # the vessel last, for it runs inside the liver
        label[surfaces[LABELS[str(value)]] < 0] = value
    return label


_CENTRE = np.array([4.0, -12.0, 30.0])  # mm; scanners seldom put the origin in the middle of the body


def _geometry(random: np.random.Generator, index: int, half_extent: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Choose a case's matrix size and its oblique affine (mm, RAS), both in the case's own axis order."""
    spacing = random.uniform(1.5, 2.0, 3)
    extent = 2 * half_extent * random.uniform([0.96, 0.96, 0.94], [1.06, 1.06, 1.06])
    shift = random.uniform(-0.03, 0.03, 3) * half_extent
    if index % 4 == 1:  # a longer scan, whose last slices show no organ
        extent[2] *= 1.3
        shift[2] += 0.08 * half_extent[2]
    size = np.maximum(np.round(extent / spacing), 8).astype(int)
    direction = Rotation.from_euler("xyz", random.uniform(-5, 5, 3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = _CENTRE + shift - affine[:3, :3] @ ((size - 1) / 2)
    codes = nib.orientations.axcodes2ornt(AXIS_CODES[index % len(AXIS_CODES)])
    to_case = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), codes)
    affine = affine @ nib.orientations.inv_ornt_aff(to_case, tuple(size))
    shape = np.empty(3, int)
    shape[to_case[:, 0].astype(int)] = size
    return tuple(int(n) for n in shape), affine


def _deform(random: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Carry points [H,W,D,3] of a case to the template: affine map after the flow of a smooth velocity field."""
    spacing = 2 * FLOW_REACH / (FLOW_GRID - 1)
    velocity = np.asarray(
        sum(
            amount * _smooth_noise(random, (FLOW_GRID,) * 3, scale / spacing)
            for scale, amount in ((0.42, 0.045), (0.2, 0.022))
        )
    )  # [3, 40, 40, 40], template units
    nodes = np.stack(np.meshgrid(*[np.arange(FLOW_GRID)] * 3, indexing="ij")).astype(float)
    flow = velocity / 2**6
    for _ in range(6):  # scaling and squaring: the flow composed with itself doubles the time
        flow = flow + _sample(flow, nodes + flow / spacing)
    moved = points + np.moveaxis(_sample(flow, (np.moveaxis(points, -1, 0) + FLOW_REACH) / spacing), 0, -1)
    rotation = Rotation.from_euler("xyz", random.normal(0, 3, 3), degrees=True).as_matrix()
    linear = rotation @ np.diag(np.exp(random.normal(0, 0.05, 3)))
    return moved @ linear.T + random.normal(0, 0.025, 3)


def _smooth_noise(random: np.random.Generator, shape: tuple[int, ...], sigma: float, channels: int = 3) -> np.ndarray:
    """Return smooth noise [channels, *shape] of zero mean and unit standard deviation, correlated over sigma nodes."""
    noise = np.stack([gaussian_filter(random.standard_normal(shape), sigma, mode="wrap") for _ in range(channels)])
    noise -= noise.mean(axis=(1, 2, 3), keepdims=True)
    return noise / noise.std(axis=(1, 2, 3), keepdims=True)


def _sample(field: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Sample a field [C, X, Y, Z] linearly at nodes [3, ...]; beyond the border the border's value."""
    return np.stack([map_coordinates(channel, nodes, order=1, mode="nearest") for channel in field])


def _anatomy(p: np.ndarray) -> dict[str, np.ndarray]:
    """Return each structure's signed distance, < 0 inside, at template points [H,W,D,3] (RAS; -1 to 1 is seen)."""
    x, y, z = p[..., 0], p[..., 1], p[..., 2]

    def ellipsoid(centre: tuple, radii: tuple, power: float = 2.0) -> np.ndarray:
        scaled = np.abs((p - centre) / radii) ** power
        return (scaled.sum(-1) ** (1 / power) - 1) * min(radii)

    def capsule(start: tuple, end: tuple, radius: float) -> np.ndarray:
        axis = np.subtract(end, start)
        along = np.clip((p - start) @ axis / (axis @ axis), 0, 1)
        return np.linalg.norm(p - start - along[..., None] * axis, axis=-1) - radius

    def join(*surfaces: np.ndarray, blend: float = 0.05) -> np.ndarray:
        return -blend * np.logaddexp.reduce([-surface / blend for surface in surfaces])

    wall = (np.abs(x / 0.93) ** 2.4 + np.abs((y + 0.02) / 0.88) ** 2.4) ** (1 / 2.4) - 1
    liver = join(
        ellipsoid((0.40, 0.10, 0.12), (0.40, 0.50, 0.52), 2.4),
        ellipsoid((0.02, 0.36, 0.26), (0.36, 0.28, 0.26)),
    )
    stomach = join(
        ellipsoid((-0.38, 0.24, 0.14), (0.29, 0.32, 0.36)),
        ellipsoid((-0.16, 0.26, -0.20), (0.25, 0.21, 0.20)),
    )
    spleen = ellipsoid((-0.55, -0.20, 0.20), (0.23, 0.34, 0.40), 2.2)
    kidney = ellipsoid((0.40, -0.44, -0.34), (0.22, 0.23, 0.34))
    vessel = join(
        capsule((0.10, 0.02, -0.12), (0.34, 0.10, 0.14), 0.15),
        capsule((0.34, 0.10, 0.14), (0.56, 0.16, 0.20), 0.12),
        capsule((0.34, 0.10, 0.14), (0.42, -0.10, 0.36), 0.12),
        blend=0.03,
    )
    touching = np.stack([liver, stomach, spleen, kidney])
    nearest_two = np.sort(touching, axis=0)[:2]
    # Where two organs would overlap, they meet half way and share a border.
    parted = [np.maximum(s, (s - np.where(s == nearest_two[0], *nearest_two[::-1])) / 2) for s in touching]
    return {
        "body": wall,
        "muscle": wall + 0.13 + 0.04 * np.cos(3 * np.arctan2(y, x)),
        "cavity": np.maximum(wall + 0.24, -join(ellipsoid((0, -0.74, 0), (0.42, 0.24, 9.0)), wall + 2)),
        "spine": ellipsoid((0.0, -0.60, 0.0), (0.17, 0.15, 9.0)) + 0.02 * np.cos(14 * z),
        "canal": ellipsoid((0.0, -0.80, 0.0), (0.06, 0.055, 9.0)),
        "aorta": capsule((-0.08, -0.36, -2.0), (-0.08, -0.36, 2.0), 0.075),
        "bowel": join(
            ellipsoid((-0.34, 0.16, -0.56), (0.26, 0.24, 0.17)),
            ellipsoid((0.16, 0.34, -0.58), (0.28, 0.20, 0.20)),
            ellipsoid((-0.02, 0.02, -0.42), (0.14, 0.14, 0.14)),
        ),
        "other_kidney": ellipsoid((-0.40, -0.45, -0.36), (0.21, 0.22, 0.30)),
        "liver": parted[0],
        "stomach": parted[1],
        "spleen": parted[2],
        "kidney": parted[3],
        "portal_vessel": np.maximum(vessel, parted[0] + 0.02),
    }


# Signal of each tissue, and how much it differs from scan to scan; painted in this order.
TISSUES = {
    "body": (0.95, 0.04),
    "muscle": (0.40, 0.04),
    "cavity": (0.88, 0.04),
    "spine": (0.60, 0.05),
    "canal": (0.22, 0.05),
    "aorta": (0.26, 0.04),
    "bowel": (0.52, 0.04),
    "other_kidney": (0.68, 0.03),
    "liver": (0.56, 0.03),
    "stomach": (0.42, 0.03),
    "spleen": (0.64, 0.03),
    "kidney": (0.68, 0.03),
    "portal_vessel": (0.32, 0.04),
}


def _acquire(random: np.random.Generator, surfaces: dict, points: np.ndarray, voxel: float) -> np.ndarray:
    """Turn structures into a scan [H,W,D] int16: partial volume, texture, contrast, bias field, Rician noise, gain."""
    shape = points.shape[:-1]
    texture = _smooth_noise(random, shape, 1.1, channels=2)
    image = np.zeros(shape)
    for number, (name, (signal, spread)) in enumerate(TISSUES.items()):
        inside = 1 / (1 + np.exp(np.clip(surfaces[name] / (0.35 * voxel), -30, 30)))  # partial volume over one voxel
        tissue = signal + random.normal(0, spread) + 0.03 * texture[number % 2]
        image += inside * (tissue - image)
    image = np.clip(image, 0, None) ** np.exp(random.normal(0, 0.15))
    ramp = points @ random.normal(0, 0.10, 3) + 0.08 * np.sin(points @ random.normal(0, 1.2, 3) + random.uniform(0, 6))
    image = gaussian_filter(image * np.exp(ramp), 0.45)
    noise = random.uniform(0.025, 0.05) * random.standard_normal((2, *shape))
    gain = np.exp(random.uniform(np.log(300), np.log(3000)))
    return np.clip(np.round(gain * np.hypot(image + noise[0], noise[1])), 0, 32767).astype(np.int16)
