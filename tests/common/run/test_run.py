from __future__ import annotations

import pytest
import torch

from common.errors import InputError
from common.run.run import Run


def make(folder, **settings):
    names = {"bundle_root": folder, "output_dir": folder / "eval", "ckpt_dir": folder, "cache_dir": folder / "cache"}
    return Run(**{name: str(path) for name, path in names.items()} | settings)


@pytest.mark.parametrize("word", ["true", "1", "yes", "on", "True", "ON", 1, True])
def test_words_for_resume_keep_the_checkpoints_of_an_interrupted_run(tmp_path, word):
    (tmp_path / "train.checkpoint.pt").touch()
    run = make(tmp_path, resume=word)
    run.forget_checkpoints()
    assert run.resume is True and (tmp_path / "train.checkpoint.pt").exists()


def test_a_new_run_forgets_the_stages_of_the_one_before_and_nothing_else(tmp_path):
    names = ["model.pt", "distill.checkpoint.pt", "train.checkpoint.pt", "train.checkpoint.pt.previous"]
    for name in names:
        (tmp_path / name).touch()
    make(tmp_path, resume="no").forget_checkpoints()
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    make(tmp_path / "not there").forget_checkpoints()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"resume": "maybe"}, "resume is 'maybe'; wanted true or false"),
        ({"seed": "x"}, "seed is 'x'; wanted a whole number"),
        ({"save_every": 0}, "save_every is 0; wanted a whole number of 1 or more"),
        ({"num_workers": 1.5}, "num_workers is 1.5; wanted a whole number of 0 or more"),
    ],
)
def test_words_that_mean_nothing_are_one_line(tmp_path, settings, line):
    with pytest.raises(InputError, match=line):
        make(tmp_path, **settings)


def test_the_home_folder_and_the_manifest_that_is_made_when_it_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make(tmp_path, output_dir="~/out", dataset_dir="~/data", device="cpu")
    assert run.output_dir == tmp_path / "out" and run.dataset_dir == str(tmp_path / "data")
    assert run.device == torch.device("cpu") and run.checkpoint("distill").name == "distill.checkpoint.pt"
    with pytest.raises(InputError, match=r"dataset\.json"):  # there is none, which building the run did not look at
        _ = run.manifest


def test_torchrun_says_which_process_this_is(tmp_path, monkeypatch):
    assert (make(tmp_path).rank, make(tmp_path).world_size) == (0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (make(tmp_path).rank, make(tmp_path).world_size) == (1, 2)
