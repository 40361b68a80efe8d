from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, Orientationd, ResizeWithPadOrCropd, Spacingd

from common.data.presence import derive_slice_labels, ras_axes, slice_labels_entry
from common.errors import InputError
from common.slices.presence_volume import AddPresenced, bits_on_grid, slice_bits

LABELS = {0: "background", 2: "liver", 7: "spleen"}
SHAPE = (5, 6, 4)


@pytest.mark.parametrize(("codes", "anatomical"), [("RAS", 2), ("LPS", 1), ("PSR", 0), ("PSR", 1), ("SLA", 2)])
def test_presence_follows_the_image_to_the_grid(tmp_path, codes, anatomical):
    """Bits of the stored file, carried through orientation and resampling, are those of the mask carried likewise."""
    label = np.zeros((12, 10, 14), np.uint8)
    label[3:8, 2:6, 4:11] = 2
    label[7:10, 5:9, 9:13] = 7
    ras = nibabel.Nifti1Image(label, np.diag([1.0, 1.5, 2.0, 1.0]))
    to_codes = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(ras.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    stored = ras.as_reoriented(to_codes)
    nibabel.save(stored, tmp_path / "scan.nii.gz")
    axis = ras_axes(stored.affine).index(anatomical)
    entry = slice_labels_entry(derive_slice_labels(np.asarray(stored.dataobj), axis, LABELS), LABELS)
    item = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(1.0, 1.5, 1.0), mode="nearest", padding_mode="border"),
            ResizeWithPadOrCropd("image", (16, 8, 28), mode="edge"),
            AddPresenced("image", LABELS),
        ]
    )({"case": "scan", "image": str(tmp_path / "scan.nii.gz"), "slice_labels": entry})
    assert "slice_labels" not in item
    assert item["presence"].shape == (2, 16, 8, 28)
    bits = slice_bits(item["presence"], anatomical)
    others = [axis for axis in range(3) if axis != anatomical]
    cut = torch.stack([(item["image"][0] == value).as_subclass(torch.Tensor) for value in (2, 7)])
    assert torch.equal(bits, cut.amax([axis + 1 for axis in others]))
    assert bits.any(1).all() and not bits.all()


def test_items_without_slice_labels_and_plain_tensors():
    assert set(AddPresenced("image", LABELS)({"image": torch.rand(1, *SHAPE)})) == {"image"}
    entry = {"axis": 1, "labels": {"2": [0, 1, 0, 0, 0, 0], "7": None}}
    item = AddPresenced("image", [0, 2, 7])({"image": torch.rand(1, *SHAPE), "slice_labels": entry})
    assert item["presence"].shape == (2, *SHAPE) and item["presence"].dtype == torch.float32
    assert slice_bits(item["presence"], 1)[0].tolist() == [False, True, False, False, False, False]
    batch = slice_bits(torch.stack([item["presence"], 0 * item["presence"]]), 1)
    assert batch.shape == (2, 2, 6) and batch.sum() == 1
    with pytest.raises(InputError, match=r"case_3: slice_labels: label 7 \(spleen\) is missing"):
        AddPresenced("image", LABELS)(
            {"case": "case_3", "image": torch.rand(1, *SHAPE), "slice_labels": {"axis": 1, "labels": {"2": None}}}
        )


def test_bits_on_a_finer_and_larger_grid_and_on_none_beside_the_scan():
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    grid = np.diag([2.0, 1.0, 1.5, 1.0])  # twice as fine along S
    grid[2, 3] = -6.0  # and begins four of its voxels below
    image = MetaTensor(
        torch.zeros(1, 4, 5, 30), affine=grid, meta={"original_affine": affine, "spatial_shape": (8, 9, 10)}
    )
    bits = torch.zeros(2, 10, dtype=torch.bool)
    bits[0, 3:6] = bits[1, [0, 9]] = True
    presence = bits_on_grid(bits, 2, image)
    assert presence.shape == (2, 4, 5, 30) and presence.untyped_storage().nbytes() == 2 * 30 * 4  # its profile
    found = slice_bits(presence, 2)
    # stored slices 3 to 5 are at 9 to 15 mm, voxels 10 to 14 of the grid, and half a slice more on either side
    assert set(range(10, 15)) <= set(found[0].nonzero()[:, 0].tolist()) <= set(range(9, 16))
    # the first and the last are at 0 and 27 mm, voxels 4 and 22, and reach half a slice beyond
    assert set(found[1].nonzero()[:, 0].tolist()) <= {3, 4, 5, 21, 22, 23} and found[1, [4, 22]].all()
