from __future__ import annotations

import pytest

from common.errors import InputError
from common.slices.cohort import PresenceCohort


def test_a_kind_of_cohort_reads_its_own_before_any_image_is_opened(tiny_cohort):
    class Picky(PresenceCohort):
        def read_further(self, content, name):
            assert name == "dataset.json" and "grid" not in vars(self)
            self.told = [content.name, len(self.cases)]
            if content.other.get("missing") is None and self.strict:
                raise InputError("missing is nowhere; wanted it")

    Picky.strict = False
    cohort = Picky(str(tiny_cohort))
    assert cohort.told == [cohort.name, 5] and cohort.slice_axis == 2
    Picky.strict = True
    with pytest.raises(InputError, match="missing is nowhere"):
        Picky(str(tiny_cohort))


def test_no_case_has_a_mask(tiny_cohort):
    cohort = PresenceCohort(str(tiny_cohort), spatial_size="null")
    assert all(set(case) == {"case", "image", "slice_labels"} for case in cohort.cases)
    assert set(cohort.slice_labels) == {case["case"] for case in cohort.cases}
    assert len(cohort.scored) == 2 and cohort.grid.label_values == tuple(cohort.labels)
    assert cohort.describe_share().endswith("of the axial slices are positive")
