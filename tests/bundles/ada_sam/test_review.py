from __future__ import annotations

import nibabel
import numpy as np

from support.ada_sam.fake import FakeLabeller, cohort, images
from support.bundle.path import import_bundle
from support.report.page import check_page
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
    for words in ("<td>4, 6</td>", "<td>none</td>", "the mask jumps at slice 5", "masks on 2 slices"):
        assert words in page, words
    seen = check_page(page)
    assert [heading.strip() for heading in seen.texts["h3"]] == ["case_1", "case_0"]  # what stands out comes first
    assert "2 of 2 masks are learnt from. 1 stands out and should be looked at first." in page
    assert len(seen.all("img")) == 2 * 2 and "2 to learn from, 0 rejected" in capsys.readouterr().out


def test_each_label_has_its_agreement_and_its_flags(tmp_path):
    made = review(tmp_path)
    assert made.label_rows("case_0")[0] == {
        "structure": "front", "slices with masks": "4, 6", "volume (ml)": 1.25, "agreement with its masks": 0.75,
        "stands out": "no", "odd, as others are": "",
    }  # fmt: skip
    front = made.label_rows("case_1")[0]
    assert front["stands out"] == "jump" and front["agreement with its masks"] is None


def test_each_case_has_a_dot_for_its_agreement(tmp_path):
    assert review(tmp_path).strips() == {
        "front": {"agreement with its masks": [0.75]}, "back": {"agreement with its masks": [0.5]},
    }  # fmt: skip


def test_which_slices_had_masks():
    assert module.mask_rows(cohort()) == [
        {"scan": "case_0", "axial slices with masks, counted from 1 along the file's axis": "4, 6"}
    ]
    assert module.supervision(cohort()).startswith("Supervision: masks on 2 slices")
