"""Who is learnt from and who is scored by: never the same case, the same for every bundle, and the same next year."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import pytest

from benchmarks.resumable import row_parser
from common.data.datalist import Datalist, read_datalist
from support.bundle.path import BUNDLES, import_bundle
from tools.layouts.dataset import Published, Scan, split
from tools.layouts.published import HELD_OUT

NAMES = ("ada_sam", "rrl_medsam", "semisam_plus", "weakmedsam")
ARGUMENTS = argparse.Namespace(spatial_size=None, settings="{}")
# of draws that were published; another value means that a table can't be made again
SPLITS = {0: "00af3869b8ab0887", 1: "25da5f5e5ff7c255"}
DRAWN = {0: ["sample_002", "sample_004", "sample_003"], 1: ["sample_004", "sample_000", "sample_001"]}
DRAWN_SLICES = {
    0: {"sample_000": [21], "sample_002": [16], "sample_003": [9], "sample_004": [15]},
    1: {"sample_000": [26], "sample_001": [23], "sample_002": [14], "sample_004": [23]},
}


def cohort_of(bundle: str, data: Path, **overrides: object):
    """Return the cohort that a row of the bundle's benchmark learns from."""
    import_bundle(bundle)
    fixed = {"bundle_root": str(BUNDLES / bundle), "dataset_dir": str(data)}
    return row_parser(BUNDLES / bundle, ARGUMENTS, fixed, overrides).get_parsed_content("cohort")


def ids(cases) -> list[str]:
    return [case["case"] for case in cases]


def held_out(content: Datalist) -> set[str]:
    return set(ids(content.validation + content.test))


@pytest.mark.parametrize("bundle", NAMES)
def test_no_case_is_both_learnt_from_and_scored_by(bundle, tiny_cohort):
    content = read_datalist(tiny_cohort)
    for seed in range(3):
        cohort = cohort_of(bundle, tiny_cohort, seed=seed)
        assert sorted(ids(cohort.cases)) == sorted(ids(content.training))
        assert ids(cohort.scored) == ids(content.test) and not set(ids(cohort.cases)) & held_out(content)
        files = {case[key] for case in cohort.cases for key in ("image", "label") if key in case}
        assert not files & {case[key] for case in cohort.scored for key in ("image", "label")}


def test_all_bundles_are_scored_by_the_same_cases_with_the_same_truth(tiny_cohort):
    scored = [cohort_of(bundle, tiny_cohort, seed=seed).scored for bundle in NAMES for seed in (0, 1)]
    assert len(scored[0]) == 2 and all(cases == scored[0] for cases in scored)


def test_labelled_volumes_are_drawn_by_the_seed_alone(tiny_cohort):
    for seed, wanted in DRAWN.items():
        for method in ("supervised", "mean_teacher", "cps"):
            cohort = cohort_of("semisam_plus", tiny_cohort, seed=seed, num_labeled=3, method=method)
            assert ids(cohort.labeled) == wanted
            assert not set(wanted) & (set(ids(cohort.unlabeled)) | held_out(cohort.content))
    assert len({tuple(drawn) for drawn in DRAWN.values()}) == len(DRAWN)


def test_labelled_slices_are_drawn_by_the_seed_alone(tiny_cohort):
    for seed, wanted in DRAWN_SLICES.items():
        for row in ({}, {"unet_share": 0}, {"feedback": True}):
            cohort = cohort_of("ada_sam", tiny_cohort, seed=seed, num_label_slices=4, **row)
            assert cohort.label_slices == wanted and not set(wanted) & held_out(cohort.content)
    assert DRAWN_SLICES[0] != DRAWN_SLICES[1]


@pytest.mark.parametrize("seed", SPLITS)
def test_the_split_of_a_published_set_is_the_one_that_was_published(seed):
    scans = [Scan(f"OASIS_OAS1_{number:04d}_MR1", Path("x"), None) for number in range(414)]
    for order in (scans, scans[::-1]):
        parts = split(Published({}, {}, order), *HELD_OUT["oasis"], seed=seed)
        names = {part: [scan.case for scan in cases] for part, cases in parts.items()}
        assert sum(map(len, names.values())) == len(set().union(*names.values())) == 414
        assert hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()[:16] == SPLITS[seed]
