from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import torch

from common.grid.grid import Grid
from common.pseudo_labels.review import LabelReview
from common.volumes.nifti_forms import read_forms
from support.report.page import check_page
from support.weakmedsam.fake import LABELS, SIZE, SPACING, grid_image, one_hot, structures

CASES = ["case_0", "case_1"]


def review(folder, **changes) -> LabelReview:
    grid = Grid(SIZE, SPACING, tuple(LABELS))
    labeller = SimpleNamespace(
        cases=CASES,
        load=lambda case: {"target": one_hot(), "weight": torch.ones(1, *SIZE)},
        judgement=lambda case: {"volume_ml": {"1": 1.25, "4": 0.0}},  # the second label has no voxel anywhere
        **changes,
    )
    images = [{"case": case, "image": grid_image()} for case in CASES]
    return LabelReview(labeller, SimpleNamespace(name="cohort", labels=LABELS, grid=grid), images, str(folder))


def test_every_case_has_a_volume_a_table_and_a_picture(tmp_path, capsys):
    review(tmp_path, selected=("case_0",)).write()
    folder = tmp_path / "pseudo_labels"
    assert {path.name for path in folder.iterdir()} == {"case_0.nii.gz", "case_1.nii.gz", "report.html"}
    label = nibabel.load(folder / "case_1.nii.gz")
    assert np.array_equal(np.asarray(label.dataobj), np.array(list(LABELS))[structures().numpy()])
    page = (folder / "report.html").read_text(encoding="utf-8")
    seen = check_page(page)
    assert seen.texts["h3"] == ["case_0", "case_1 "] and seen.texts["span"] == ["rejected"]
    assert len(seen.all("img")) == 2 * 2 and "Nothing stands out: front 1.2 ml, back 0.0 ml." in page
    said = capsys.readouterr().out
    assert "1 to learn from, 1 rejected" in said and "warning: no pseudo label has a single voxel of back" in said


def test_without_a_selection_all_cases_are_learnt_from(tmp_path):
    made = review(tmp_path)
    assert made.selected == CASES and [card.badge for card in made.cards()] == ["", ""]
    assert made.rows() == [{"scan": case, "front (ml)": 1.25, "back (ml)": 0.0} for case in CASES]
    assert made.label_rows("case_0")[0] == {"structure": "front", "volume (ml)": 1.25}


def test_large_label_values_are_kept(tmp_path):
    made = review(tmp_path)
    made.cohort.grid = Grid(SIZE, SPACING, (0, 1, 300))
    made.folder.mkdir()
    written = nibabel.load(made.save_volume(made.images[0]))
    assert written.get_data_dtype() == np.uint16 and np.asarray(written.dataobj).max() == 300


def test_a_pseudo_label_lies_where_its_scan_does_for_every_reader(tmp_path):
    """The unit of the file is kept, and a qform of its own."""
    made = review(tmp_path)
    image = made.images[0]["image"]
    affine = np.asarray(image.meta["original_affine"], dtype=float)
    scan = nibabel.Nifti1Image(np.zeros(image.meta["spatial_shape"], np.uint8), affine)
    scan.set_qform(affine + 4 * np.eye(4, k=3), 3)
    scan.set_sform(affine, 2)
    image.meta["nifti_forms"] = read_forms(scan.header)
    made.folder.mkdir()
    written = nibabel.load(made.save_volume(made.images[0]))
    assert (read_forms(written.header) == read_forms(scan.header)).all()
