"""Look at every image and label once, before anything heavy starts, and say all that is wrong with them."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .presence_bits import read_slice_labels

NIFTI_SUFFIXES = (".nii", ".nii.gz")
SPACING_TOLERANCE = 1e-3  # relative
DIRECTION_TOLERANCE = 1e-3  # largest difference of a direction cosine
ORIGIN_TOLERANCE = 1e-2  # mm
SMALLEST_SPACING = 1e-6  # mm
SHOWN_VALUES = 5

Case = Mapping[str, Any]
Geometry = tuple[tuple[int, ...], np.ndarray]  # shape in voxels, affine to RAS mm
Progress = Callable[[Sequence[Case]], Iterable[Case]]


class Unreadable(Exception):
    """A file that is no usable volume; the text goes after its name in the line of the problem."""


@dataclass(frozen=True)
class Volume:
    """One volume as stored: voxels [H, W, D] in the file's own axis order, and its affine to RAS mm."""

    array: np.ndarray
    affine: np.ndarray


def require_sound(
    *groups: Sequence[Case],
    label_values: Collection[int],
    dataset_dir: str | Path | None = None,
    needs_foreground: Collection[str] = (),
    read_labels: bool = True,
    slice_labels: bool = False,
    progress: Progress | None = None,
) -> None:
    """Check all cases of all groups, also against each other.

    A case that must stay unlabelled is given without its `label` key: its mask is then never opened.

    Raises:
        InputError: one line for each problem of each case, all of them together.
    """
    cases = [case for group in groups for case in group]
    problems = check_cases(
        cases,
        label_values,
        read_labels=read_labels,
        slice_labels=slice_labels,
        progress=progress,
        dataset_dir=dataset_dir,
        needs_foreground=needs_foreground,
    )
    if problems:
        raise InputError(problems)


def check_cases(
    cases: Sequence[Case],
    label_values: Collection[int],
    read_labels: bool = True,
    progress: Progress | None = None,
    dataset_dir: str | Path | None = None,
    needs_foreground: Collection[str] = (),
    slice_labels: bool = False,
) -> list[str]:
    """Open every image, and every label that a case has, and return one line for each problem.

    Args:
        cases: dicts with `image` and optionally `case` and `label`, all paths.
        label_values: the values that a mask may have, 0 included.
        read_labels: False leaves all labels closed.
        progress: wraps the list of cases while it is walked, as `rich.progress.track` and `tqdm.tqdm` do.
        dataset_dir: folder that the paths in the lines are relative to.
        needs_foreground: ids of the cases (the atlas) whose mask must not be empty.
        slice_labels: hold the `slice_labels` of the cases that have them against labels and image.
    """
    problems: list[str] = []
    digests: dict[bytes, str] = {}
    for case in cases if progress is None else progress(cases):
        image_name = _relative(case["image"], dataset_dir)
        image = _try_read(case["image"], image_name, problems)
        if image is not None:
            problems += [f"{image_name}: {problem}" for problem in _check_image(image)]
            digest = hashlib.blake2b(np.ascontiguousarray(image.array), digest_size=16).digest()
            earlier = digests.setdefault(digest + str(image.array.shape).encode(), image_name)
            if earlier != image_name:
                problems.append(f"{image_name}: the same voxels as {earlier}; wanted every scan once")
            if slice_labels and case.get("slice_labels") is not None:
                problems += _check_slice_labels(case["slice_labels"], image, label_values, image_name)
        if read_labels and "label" in case:
            label_name = _relative(case["label"], dataset_dir)
            label = _try_read(case["label"], label_name, problems)
            if label is None:
                continue
            found = check_mask(label.array, label_values, case.get("case") in needs_foreground)
            if image is not None:
                grids = [(volume.array.shape, volume.affine) for volume in (label, image)]
                found += compare_grids(*grids, image_name)
            problems += [f"{label_name}: {problem}" for problem in found]
    return problems


def read_volume(path: str | Path) -> Volume:
    """Read NIfTI through nibabel (every byte, the gzip checksum included), a folder as one DICOM series, and all else
    through SimpleITK.

    Raises:
        Unreadable: missing, empty, truncated, of another format than its name says; not 3D; RGB or complex; affine or
            spacing that no grid has.
    """
    path = Path(path)
    if not path.exists():
        raise Unreadable("no such file")
    if path.is_dir():
        volume = _read_dicom(path)
    elif path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)")
    elif path.name.lower().endswith(NIFTI_SUFFIXES):
        volume = _read_nifti(path)
    else:
        volume = _read_itk(path)
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    if not np.isfinite(volume.affine).all():
        raise Unreadable("the affine has NaN or Inf; wanted finite numbers")
    if spacing.min() < SMALLEST_SPACING:
        raise Unreadable(f"spacing {_numbers(spacing)} mm; wanted more than 0 on every axis")
    # the determinant of the direction alone, so that small voxels don't count as singular
    if abs(np.linalg.det(volume.affine[:3, :3] / spacing)) < 1e-3:
        raise Unreadable(f"the affine is singular: {volume.affine[:3, :3].round(4).tolist()}; wanted an invertible one")
    return volume


def read_geometry(path: str | Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return (shape in voxels, affine to RAS mm) of a volume as stored, from its header where the format has one.

    Raises:
        Unreadable: as `read_volume`, of which this looks at the header only; a DICOM folder is read as a whole.
    """
    path = Path(path)
    if path.is_dir() or not path.name.lower().endswith(NIFTI_SUFFIXES):
        volume = read_volume(path)
        return volume.array.shape, volume.affine
    import nibabel

    try:
        image = nibabel.load(path)
    except Exception as error:  # nibabel raises many kinds for a broken file
        raise Unreadable(f"not a readable NIfTI file ({_first_line(error)})") from error
    _require_3d(image.shape, image.get_data_dtype())
    return image.shape, np.asarray(image.affine, dtype=float)


def check_mask(array: np.ndarray, label_values: Collection[int], needs_foreground: bool = False) -> list[str]:
    """Return what is wrong with the values of a mask, or of some slices of one; no line where nothing is."""
    values = np.unique(array)
    if not np.isfinite(values).all():
        return ["the mask has NaN or Inf; wanted whole numbers"]
    fractional = values[values != np.rint(values)]
    if fractional.size:
        return [f"the mask has fractional values ({_numbers(fractional)}); wanted whole numbers"]
    problems = []
    unknown = sorted({int(value) for value in values} - set(label_values))
    if unknown:
        wanted = ", ".join(str(value) for value in sorted(label_values))
        problems.append(f"the mask has the values {_numbers(unknown)}; wanted only those declared: {wanted}")
    if needs_foreground and not values.any():
        problems.append("the mask is empty; wanted at least one labelled voxel in the atlas")
    return problems


def compare_grids(label: Geometry, image: Geometry, image_name: str) -> list[str]:
    """Return in what the (shape, affine) of a label differs from that of its image, a line each."""
    problems = []
    (found, affine), (wanted, image_affine) = label, image
    if tuple(found) != tuple(wanted):
        problems.append(f"shape {tuple(found)}; wanted {tuple(wanted)} as in {image_name}")
    found, wanted = (np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, image_affine))
    if (abs(found - wanted) > SPACING_TOLERANCE * wanted).any():
        problems.append(f"spacing {_numbers(found)} mm; wanted {_numbers(wanted)} mm as in {image_name}")
    found, wanted = affine[:3, :3] / found, image_affine[:3, :3] / wanted
    if abs(found - wanted).max() > DIRECTION_TOLERANCE:
        rows = [direction.round(4).tolist() for direction in (found, wanted)]
        problems.append(f"direction {rows[0]}; wanted {rows[1]} as in {image_name}")
    found, wanted = affine[:3, 3], image_affine[:3, 3]
    if abs(found - wanted).max() > ORIGIN_TOLERANCE:
        problems.append(f"origin {_numbers(found)} mm; wanted {_numbers(wanted)} mm as in {image_name}")
    return problems


def _require_3d(shape: Sequence[int], dtype: np.dtype) -> None:
    """Refuse by the header alone, before the voxels are read."""
    if dtype.fields is not None:
        raise Unreadable(f"voxels are {'/'.join(dtype.names)} colours, shape {tuple(shape)}; wanted one grey channel")
    if dtype.kind == "c":
        raise Unreadable(f"voxels are complex ({dtype}), shape {tuple(shape)}; wanted real numbers")
    if len(shape) != 3:
        raise Unreadable(f"shape {tuple(shape)}; wanted 3 dimensions")
    if min(shape) < 2:
        raise Unreadable(f"shape {tuple(shape)}; wanted 3 dimensions of 2 voxels or more")


def _read_nifti(path: Path) -> Volume:
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)  # all of it: nibabel itself stops before the checksum
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"not a sound gzip file ({error}); wanted a whole .nii.gz") from error
    classes = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}  # by the size of the header, in either byte order
    size = min(int.from_bytes(content[:4], order) for order in ("little", "big"))
    if size not in classes:
        raise Unreadable("no NIfTI header; wanted a NIfTI file, as its name says")
    image_class = classes[size]
    try:
        with LoggingOutputSuppressor():
            # check=False: nibabel would mend a zero spacing without a word
            raw = image_class.header_class.from_fileobj(BytesIO(content), check=False)
            shape, dtype = raw.get_data_shape(), raw.get_data_dtype()
            _require_3d(shape, dtype)
            pixdim = np.asarray(raw["pixdim"][1:4], dtype=float)
            if not np.isfinite(pixdim).all() or pixdim.min() < SMALLEST_SPACING:
                raise Unreadable(f"spacing {_numbers(pixdim)} mm; wanted more than 0 on every axis")
            image = image_class.from_bytes(content)
            array = np.asanyarray(image.dataobj)
    except Unreadable:
        raise
    except Exception as error:  # nibabel raises many kinds for a broken file
        raise Unreadable(f"not a readable NIfTI file ({_first_line(error)})") from error
    return Volume(array, np.asarray(image.affine, dtype=float))


def _read_itk(path: Path) -> Volume:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        shape, components = reader.GetSize(), reader.GetNumberOfComponents()
        if components > 1:
            raise Unreadable(f"{components} channels, shape {tuple(shape)}; wanted one grey channel")
        is_complex = "complex" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
        _require_3d(shape, np.dtype(np.complex64 if is_complex else np.float32))
        image = reader.Execute()
    except RuntimeError as error:
        raise Unreadable(f"not a readable image ({_last_line(error)})") from error
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK counts in LPS
    return Volume(SimpleITK.GetArrayViewFromImage(image).transpose(2, 1, 0).copy(), to_ras @ affine)


def _read_dicom(path: Path) -> Volume:
    from monai.data import ITKReader

    try:
        reader = ITKReader()
        array, meta = reader.get_data(reader.read(str(path)))
    except Exception as error:
        raise Unreadable(f"not a readable DICOM series ({_last_line(error)})") from error
    _require_3d(array.shape, array.dtype)
    return Volume(array, np.asarray(meta["affine"], dtype=float))


def _check_image(image: Volume) -> list[str]:
    array = image.array
    if array.dtype.kind == "f":
        bad = array.size - int(np.isfinite(array).sum())
        if bad:
            return [f"{bad} of {array.size} voxels are NaN or Inf; wanted finite numbers"]
    low, high = array.min(), array.max()
    return [f"every voxel is {low:g}; wanted an image with contrast"] if low == high else []


def _check_slice_labels(entry: Any, image: Volume, labels: Collection[int], image_name: str) -> list[str]:
    try:
        read_slice_labels(entry, image.array.shape, labels, image_name)
    except InputError as error:
        return error.problems
    return []


def _try_read(path: str | Path, name: str, problems: list[str]) -> Volume | None:
    try:
        return read_volume(path)
    except Unreadable as error:
        problems.append(f"{name}: {error}")
    except OSError as error:
        problems.append(f"{name}: cannot be read ({error.strerror or error})")
    return None


def _relative(path: str | Path, dataset_dir: str | Path | None) -> str:
    path = Path(path).absolute()
    if dataset_dir is not None and path.is_relative_to(Path(dataset_dir).absolute()):
        return path.relative_to(Path(dataset_dir).absolute()).as_posix()
    return str(path)


def _numbers(values: Iterable[float]) -> str:
    values = list(values)
    more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
    return ", ".join(f"{value:g}" for value in values[:SHOWN_VALUES]) + more


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _last_line(error: BaseException) -> str:
    return next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)
