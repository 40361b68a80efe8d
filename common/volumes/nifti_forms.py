"""What a NIfTI header says of a volume's place: qform, sform, their codes and the unit, to be read and written alike.

The affine is nibabel's: the sform where its code is above 0, else the qform, else one by spacing alone. ITK chooses
otherwise, so that a result that is to lie on its scan in every viewer needs both forms as the scan has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

FIELDS = {"pixdim": 4, "quatern_b": 1, "quatern_c": 1, "quatern_d": 1, "qoffset_x": 1, "qoffset_y": 1, "qoffset_z": 1,
          "srow_x": 4, "srow_y": 4, "srow_z": 4, "qform_code": 1, "sform_code": 1, "xyzt_units": 1}  # fmt: skip
NO_FORMS = np.full(sum(FIELDS.values()), np.nan)
SPACE_UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units -> mm; metre, mm, micron
TOLERANCE = 0.5  # voxels; a stored quaternion of a turned scan is no more exact than 0.3 mm at the far end


def read_forms(header: Any) -> np.ndarray:
    """Return the numbers of FIELDS one after the other, float64, from a NIfTI header of nibabel."""
    return np.concatenate([np.atleast_1d(header[name])[:count].astype(float) for name, count in FIELDS.items()])


def write_forms(forms: np.ndarray, header: Any) -> None:
    """Put the numbers of `read_forms` into a NIfTI header of nibabel."""
    rest = np.asarray(forms, dtype=float)
    for name, count in FIELDS.items():
        values, rest = rest[:count], rest[count:]
        if count == 1:
            header[name] = values[0]
        else:
            header[name][:count] = values


def unit_mm(header: Any) -> float:
    """Return the length of a header's unit in mm; one that says none, or a strange one, means mm."""
    return SPACE_UNITS.get(int(header["xyzt_units"]) & 7, 1.0)


def to_mm(affine: np.ndarray, header: Any) -> np.ndarray:
    """Return an affine of a header in mm."""
    result = np.array(affine, dtype=float)
    result[:3] *= unit_mm(header)
    return result


def forms_header(forms: np.ndarray, shape: Sequence[int]) -> Any:
    """Return a NIfTI header of nibabel with these forms for a volume of this shape; None for those of no NIfTI file."""
    import nibabel

    forms = np.asarray(forms, dtype=float)
    if forms.shape != NO_FORMS.shape or np.isnan(forms[-3:]).any():
        return None
    header = nibabel.Nifti1Header()
    header.set_data_shape([int(n) for n in shape])
    write_forms(forms, header)
    return header


def matching_forms(forms: np.ndarray | None, affine: np.ndarray, shape: Sequence[int]) -> np.ndarray | None:
    """Return forms where they give this affine (to RAS mm) to a volume of this shape, else None: it lies elsewhere."""
    header = None if forms is None else forms_header(forms, shape)
    if header is None:
        return None
    far = np.abs(to_mm(header.get_best_affine(), header) - affine) @ np.array([*shape, 1])
    return forms if far.max() <= TOLERANCE * np.linalg.norm(np.asarray(affine)[:3, :3], axis=0).min() else None


def describe_forms(forms: np.ndarray, shape: Sequence[int]) -> str | None:
    """Return a line where a scan's place depends on who reads it, and how it is read here; None where it doesn't."""
    import nibabel
    from nibabel.spatialimages import HeaderDataError

    header = forms_header(forms, shape)
    if header is None:
        return None
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        codes = "".join(nibabel.aff2axcodes(header.get_best_affine()))
        return f"has neither a qform nor an sform, so that its sides are not known; read as {codes}"
    if header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return None
    sform = header.get_sform()
    try:
        qform = header.get_qform()
        corners = np.array([[*corner, 1] for corner in itertools.product(*[(0, n - 1) for n in shape])])
        apart = corners @ (qform - sform).T
        if np.abs(np.linalg.solve(sform[:3, :3], apart[:, :3].T)).max() <= TOLERANCE:
            return None
        far = np.linalg.norm(to_mm(np.eye(4), header)[:3, :3] @ apart[:, :3].T, axis=0).max()
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):  # no rotation, singular
        return "its qform is broken; its sform was used"
    return f"its qform and sform are up to {far:.3g} mm apart; its sform was used, and the result has both"
