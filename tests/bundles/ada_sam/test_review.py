from __future__ import annotations

import nibabel
import numpy as np

from support.ada_sam.fake import FakeLabeller, cohort, images
from support.bundle.path import import_bundle
from support.weakmedsam.fake import LABELS, structures

module = import_bundle("ada_sam", "review")


def review(folder) -> module.Review:
    known = cohort()
    return module.Review(FakeLabeller(known), known, images(), str(folder))


def test_a_volume_and_a_section_for_each_case(tmp_path, capsys):
    review(tmp_path).write()
    folder = tmp_path / "pseudo_labels"
    assert {path.name for path in folder.iterdir()} == {"case_0.nii.gz", "case_1.nii.gz", "report.html"}
    volume = nibabel.load(folder / "case_0.nii.gz")
    assert np.array_equal(np.asarray(volume.dataobj), np.array(list(LABELS))[structures().numpy()])
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in (
        "Masks on the slices 3, 5.",
        "No slice had a mask.",
        "the mask jumps before slice 4",
        "masks on 2 slices",
    ):
        assert words in page, words
    assert page.count("<img") == 2 and "2 to learn from, 0 rejected" in capsys.readouterr().out


def test_each_label_has_its_agreement_and_its_flags(tmp_path):
    made = review(tmp_path)
    assert made.label_rows("case_0")[0] == {
        "label": "front", "volume (ml)": 1.25, "agreement with its masks": 0.75, "flags": "none",
    }  # fmt: skip
    front = made.label_rows("case_1")[0]
    assert front["flags"] == "jump" and front["agreement with its masks"] is None


def test_which_slices_had_masks():
    assert module.mask_rows(cohort()) == [
        {"case": "case_0", "axial slices with masks, counted from 0 as stored": "3, 5"}
    ]
    assert module.supervision(cohort()).startswith("Supervision: masks on 2 slices")
