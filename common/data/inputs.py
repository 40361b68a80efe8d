"""What to predict: one file, a folder of files, a DICOM series, a folder of series, or the test list of a data set."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import InputError, printable
from ..grid.field_of_view import describe_oversize
from ..grid.grid import Grid
from ..volumes.dicom.headers import is_dicom
from ..volumes.names import EXTENSIONS, case_id, channel_file, channel_number
from ..volumes.read import check_channels
from ..volumes.volume import Unreadable
from .datalist import Case, read_datalist
from .selection import strip_labels

# of a .hdr/.img pair the header stands for both
IMAGE_EXTENSIONS = tuple(extension for extension in EXTENSIONS if not extension.startswith(".img"))
PROBLEMS = "problems"  # of a case that is left out: the lines that say why
WANTED = f"a file ({', '.join(IMAGE_EXTENSIONS)}), a folder of such files, or a folder of a DICOM series"


def read_images(path: str | Path, grid: Grid | None = None) -> list[Case]:
    """Return the images found at `path` after a look at every file: at what its header says and whether it holds that.

    Voxels are looked at when they are loaded (`RequireContrastd`), so that no scan is unpacked twice.

    Args:
        path: see `find_images`.
        grid: of the model; a scan that is out of all proportion to it, or has another number of channels, is unusable.

    Returns:
        [{"case": id, "image": absolute path}], sorted by path. An unusable image among others has `problems`, too: the
        lines that say why, printed at once, so that it costs none of the others its result.

    Raises:
        InputError: no image is usable: one line for each, all of them together; also what `find_images` raises.
    """
    cases = find_images(path, 1 if grid is None else grid.channels)
    found = [_check(case, grid) for case in cases]
    problems = [line for lines in found for line in lines]
    if all(found):
        raise InputError(problems)
    for line in problems:
        print(f"left out: {printable(line)}", file=sys.stderr, flush=True)
    return [{**case, PROBLEMS: lines} if lines else case for case, lines in zip(cases, found, strict=True)]


def _check(case: Case, grid: Grid | None) -> list[str]:
    try:
        shape, affine = check_channels(case["image"], 1 if grid is None else grid.channels)
    except Unreadable as error:
        return [f"{case['image']}: {error}"]
    except OSError as error:
        return [f"{case['image']}: cannot be read ({error.strerror or error})"]
    oversize = None if grid is None else describe_oversize(shape, affine, grid.finest.pixdim)
    return [] if oversize is None else [f"{case['image']}: {oversize}"]


def find_images(path: str | Path, channels: int = 1) -> list[Case]:
    """List the images at `path` without opening them.

    Args:
        path: an image file; a folder of image files or DICOM series folders (or both), not searched deeper; a folder
            of DICOM files, which is one image; a data set with a `dataset.json`, of which the test images are taken, or
            all images where it lists none.
        channels: of a scan; of several, files that nnU-Net's numbers call channels of one case are one image, which is
            known by the first.

    Raises:
        InputError: nothing there, or two images that would write to the same case.
    """
    path = Path(path).expanduser().absolute()
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; wanted {WANTED}")
    if path.is_file():
        if not _is_image(path):
            found = "one DICOM file" if is_dicom(path) else "a file of another kind"
            raise InputError(f"{path}: found {found}; wanted {WANTED}")
        return [{"case": _case(path, channels), "image": str(path)}]
    if (path / "dataset.json").is_file():
        datalist = read_datalist(path)
        return strip_labels(datalist.test or datalist.training + datalist.validation + datalist.unlabeled)
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    images = [entry for entry in entries if (entry.is_file() and _is_image(entry)) or _is_series(entry)]
    if not images and _is_series(path):
        images = [path]
    if not images:
        found = "an empty folder" if not entries else f"{len(entries)} entries, none of them an image"
        raise InputError(f"{path}: found {found}; wanted {WANTED}")
    if channels > 1:
        images = [
            image for image in images if channel_number(image) in (None, 0) or channel_file(image, 0) not in images
        ]
    cases = [{"case": _case(image, channels), "image": str(image)} for image in images]
    _require_distinct(cases)
    return cases


def _case(path: Path, channels: int) -> str:
    return path.name if path.is_dir() else case_id(path, channels)


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(IMAGE_EXTENSIONS)


def _is_series(folder: Path) -> bool:
    return folder.is_dir() and any(is_dicom(file) for file in sorted(folder.iterdir()) if file.is_file())


def _require_distinct(cases: list[Case]) -> None:
    first: dict[str, str] = {}
    problems = []
    for case in cases:
        earlier = first.setdefault(case["case"], case["image"])
        if earlier != case["image"]:
            problems.append(
                f"{case['image']}: its results would overwrite those of {Path(earlier).name} (case {case['case']}); "
                "wanted file names that differ before the extension"
            )
    if problems:
        raise InputError(problems)
