from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor

from common.serving.scan_notes import ScanNotesd
from common.volumes.nifti_forms import NO_FORMS


def image(size: tuple[int, ...], forms: np.ndarray | None = NO_FORMS) -> MetaTensor:
    """A grid of 10 mm a side over the first voxels of a scan."""
    meta = {"original_affine": np.eye(4), "spatial_shape": np.array(size), "filename_or_obj": "/scans/a.nii"}
    if forms is not None:
        meta["nifti_forms"] = torch.as_tensor(forms)  # as a loader collates it
    return MetaTensor(torch.zeros(1, 5, 5, 5), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])), meta=meta)


def test_what_was_not_seen_is_a_line_and_the_item_stays(capsys):
    item = {"image": image((40, 10, 10)), "pred": 1}
    assert ScanNotesd("image")(item) == item
    assert capsys.readouterr().out == (
        "/scans/a.nii: 75 % of the scan lies outside of the model's field of view (10 x 10 x 10 mm) and was not seen\n"
    )


def test_nothing_is_said_where_nothing_is_to_say(capsys):
    for forms in (NO_FORMS, None):  # of another format; of a client that loads images itself
        ScanNotesd("image")({"image": image((10, 10, 10), forms)})
    assert capsys.readouterr().out == ""


def test_forms_that_say_nothing(capsys):
    forms = np.array([1.0, 1, 1, 1, *[0] * 6, *[0] * 12, 0, 0, 2])
    ScanNotesd("image")({"image": image((10, 10, 10), forms)})
    assert capsys.readouterr().out.startswith("/scans/a.nii: has neither a qform nor an sform")
