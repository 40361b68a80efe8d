from __future__ import annotations

import numpy as np
import pytest

from common.grid.ranges import LABELLED, RangeSamples

AIR, LUNG, FAT, LIVER, BONE = -1000, -850, -100, 60, 700


def scan(seed=0, offset=0, frame=None):
    """Return a body of fat with a lung, a liver and a bone in air, in HU, and a label of the liver."""
    volume = np.full((48, 40, 44), AIR, float)
    volume[6:42, 6:34] = FAT
    volume[10:20, 10:30, 20:40] = LUNG
    volume[22:38, 10:30, 4:18] = LIVER
    volume[26:30, 20:24] = BONE
    label = np.zeros(volume.shape, np.uint8)
    label[23:26, 11:29, 5:17] = 1
    values = (volume + np.random.default_rng(seed).normal(0, 10, volume.shape)).round().astype(np.int16) + offset
    if frame is not None:
        values[:, :4] = frame
    return values.astype(np.int16), label


def measured(*scans, cases="abcdefgh"):
    samples = RangeSamples(cases)
    for case, (image, label) in zip("abcdefgh", scans, strict=False):
        samples.add(case, [image], label)
    return samples


def test_a_range_spans_the_labels_and_the_tissue_around_but_neither_air_nor_bone():
    low, high = measured(scan(0), scan(1)).measure(0)
    assert -140 < low < -100, "fat isn't clipped to what lung is"
    assert LIVER + 20 < high < BONE / 2


def test_without_labels_it_is_the_body_without_air_and_lung():
    samples = measured(*[(scan(seed)[0], None) for seed in range(2)])
    low, high = samples.measure(0)
    assert FAT - 40 < low < FAT and BONE - 20 < high < BONE + 40
    assert samples.describe() == "measured in the body of 2"


@pytest.mark.parametrize(("scale", "offset"), [(255 / 400, 102), (1.0, 0)])
def test_of_numbers_that_were_windowed_before_fat_is_a_part_of_the_body(scale, offset):
    def windowed(seed, lowest):
        return np.clip(scan(seed)[0], lowest, 240) * scale + offset

    low, high = measured(*[(windowed(seed, -160), None) for seed in range(2)]).measure(0)
    assert low < (FAT - 20) * scale + offset and high == 240 * scale + offset, "fat isn't clipped to what air is"
    if scale == 1:  # a window with air and lung in it is no other case than all numbers
        low, _ = measured(*[(windowed(seed, -990), None) for seed in range(2)]).measure(0)
        assert FAT - 40 < low < FAT


def test_what_a_range_cuts_off_is_told_by_nothing_that_it_was_measured_by():
    samples = measured(*[(scan(seed)[0], None) for seed in range(2)])
    assert max(samples.clipped(0, samples.measure(0))) < 0.03
    below, above = samples.clipped(0, (0, 200))  # fat is cut off
    fat = 36 * 28 * 44 - 10 * 20 * 20 - 16 * 20 * 14 - 4 * 4 * 44
    assert below == pytest.approx(fat / (fat + 16 * 20 * 14 + 4 * 4 * 44), abs=0.05) and above < 0.05

    def windowed(seed):
        return (np.clip(scan(seed)[0], -160, 240) + 160) * (255 / 400)

    samples = measured(*[(windowed(seed), None) for seed in range(2)])
    assert samples.clipped(0, (83, 255))[0] > 0.8 and samples.clipped(0, (1, 255))[0] < 0.01
    assert measured((scan(0, 1024)[0], None)).clipped(0, (800, 1300)) is None  # is it air that is at 24?


@pytest.mark.parametrize("offset", [0, 1024])
def test_numbers_may_begin_anywhere(offset):
    low, high = measured(scan(0, offset)).measure(0)
    wanted = measured(scan(0)).measure(0)
    assert low - offset == pytest.approx(wanted[0]) and high - offset == pytest.approx(wanted[1])


def test_padding_and_cases_that_are_not_learnt_from_have_no_say():
    wanted = measured(scan(0), scan(1)).measure(0)
    framed = measured(scan(0, frame=-3024), scan(1, frame=-3024)).measure(0)
    assert framed == pytest.approx(wanted, abs=3)
    assert measured(scan(0), scan(1), scan(2, 900), cases="ab").measure(0) == wanted


def test_a_small_label_counts_as_a_large_one():
    image, label = scan()
    image[30:33, 12:15, 10:13] = 300
    label[30:33, 12:15, 10:13] = 2  # 27 voxels of more than 600
    assert (label == 1).sum() > 600 and measured((image, label)).measure(0)[1] == 300


def test_of_a_large_label_some_voxels_are_kept():
    samples = RangeSamples(["a"])
    samples.add("a", [np.zeros((40, 40, 40), np.int16)], np.ones((40, 40, 40), np.uint8))
    assert LABELLED / 2 < samples.labelled[0][0].size <= LABELLED


def test_each_channel_has_its_own_and_one_value_has_none():
    image, label = scan()
    samples = RangeSamples(["a"])
    samples.add("a", [image, image * 2, np.zeros_like(image)], label)
    one, two, none = (samples.measure(channel) for channel in range(3))
    assert two == pytest.approx(np.multiply(one, 2)) and none is None
    assert RangeSamples(["a"]).measure(0) is None
