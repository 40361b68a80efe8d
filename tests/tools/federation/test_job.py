from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import InputError
from tools.federated_job import _complaints, main, read_setting, read_sites


def test_settings_are_json_or_words():
    assert read_setting("channels=[4, 8]") == ("channels", [4, 8])
    assert read_setting("generalist=null") == ("generalist", None)
    assert read_setting("method=mean_teacher") == ("method", "mean_teacher")
    assert read_setting("train::x=a=b") == ("train::x", "a=b")
    for wrong in ("epochs", "=3"):
        with pytest.raises(InputError, match="wanted KEY=VALUE"):
            read_setting(wrong)


def test_sites_have_their_own_settings():
    one, two = read_sites(["A=/a", "B=/b"], ["B:num_labeled=0", "B:seed=3"])
    assert (one.name, one.dataset_dir, one.settings) == ("A", Path("/a"), {})
    assert two.settings == {"num_labeled": 0, "seed": 3}


@pytest.mark.parametrize(
    ("given", "own", "words"),
    [
        (["A=/a"], [], "wanted 2 sites or more"),
        (["A=/a", "A=/b"], [], "each name once"),
        (["A=/a", "server=/b"], [], "each name once"),
        (["A=/a", "../B=/b"], [], "of letters"),
        (["A=/a", "B"], [], "wanted NAME=DATASET_DIR"),
        (["A=/a", "B="], [], "wanted NAME=DATASET_DIR"),
        (["A=/a", "B=/b"], ["C:seed=1"], "with one of A, B"),
    ],
)
def test_wrong_sites(given, own, words):
    with pytest.raises(InputError, match=words):
        read_sites(given, own)


def test_a_provisioned_site_has_a_name_alone():
    assert [site.name for site in read_sites(["A", "B"], ["B:num_labeled=0"], provisioned=True)] == ["A", "B"]
    with pytest.raises(InputError, match="--site B=/b: wanted NAME alone"):
        read_sites(["A", "B=/b"], [], provisioned=True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--rounds", "0"], "rounds: wanted more than 0"),
        (["--unlabeled-weight", "0"], "unlabeled_weight: wanted more"),
        (["--min-sites", "3"], "--min-sites 3: wanted 1 to 2"),
        (["--wait", "0"], "wait: wanted more than 0"),
        (["--kit", "none"], "with --kit a site's folders are known there"),
    ],
)
def test_numbers_above_nothing(tmp_path, more, words):
    sites = ["--site", "A=/a", "--site", "B=/b"]
    with pytest.raises(InputError, match=words):
        main(["--bundle", "none.zip", "--workspace", str(tmp_path / "new"), *sites, *more])
    assert not list(tmp_path.iterdir())


def test_an_earlier_training_is_not_written_over(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"kept")
    with pytest.raises(InputError, match="not empty; wanted a new folder"):
        main(["--bundle", "none.zip", "--workspace", str(tmp_path), "--site", "A=/a", "--site", "B=/b"])
    assert (tmp_path / "model.pt").read_bytes() == b"kept"


def test_what_a_site_complains_of_is_found_in_its_log(tmp_path):
    sites = read_sites(["A=/a", "B=/b"], [])
    log = tmp_path / "B" / "simulate_job" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("12:00 INFO - fine\n12:01 ERROR - error: no volume\n12:02 ERROR - error: no volume\n")
    assert _complaints(tmp_path, sites) == ["site B: no volume"]
