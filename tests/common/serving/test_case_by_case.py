from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor

from common.errors import InputError
from common.serving.case_by_case import CaseDataset, CaseEvaluator, describe_failure

PREPARED = {
    "bad": InputError("bad.nii: spacing 0; wanted more"),
    "large": MemoryError(),
    "gone": FileNotFoundError(2, "No such file or directory", "gone.nii"),
    "ours": KeyError("image"),
}


def prepare(case):
    if case["case"] in PREPARED:
        raise RuntimeError("applying transform") from PREPARED[case["case"]]
    return {"image": MetaTensor(torch.ones(1, 4, 4, 4), meta={"filename_or_obj": case["image"]})}


def predict(inputs, network):
    if inputs.meta["filename_or_obj"][0] == "late.nii":
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB.\nmore")
    return network(inputs)


def evaluator(*names: str, workers: int = 0, **problems: list[str]) -> CaseEvaluator:
    cases = [{"case": name, "image": f"{name}.nii"} for name in names]
    cases = [{**case, "problems": problems[case["case"]]} if case["case"] in problems else case for case in cases]
    loader = DataLoader(CaseDataset(cases, prepare), batch_size=1, num_workers=workers)
    return CaseEvaluator(torch.device("cpu"), loader, torch.nn.Identity(), inferer=predict)


def predicted(engine: CaseEvaluator) -> list[int]:
    """Collect how many items each iteration hands to the handlers."""
    found: list[int] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: found.append(len(engine.state.output)))
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_every_other_case_is_predicted_and_the_end_says_which_were_not(workers, capsys, caplog):
    engine = evaluator(
        "known", "a", "bad", "large", "late", "gone", "z", workers=workers, known=["known.nii: cut", "twice"]
    )
    found = predicted(engine)
    with pytest.raises(InputError) as error:
        engine.run()
    assert found == [0, 1, 0, 0, 0, 0, 1]
    larger, slower = (f"wanted a smaller scan, {word}or a larger machine" for word in ("", "device cpu, "))
    assert error.value.problems == [
        "known.nii: cut",
        "twice",
        "bad.nii: spacing 0; wanted more",
        f"large.nii: not enough memory (MemoryError); {larger}",
        f"late.nii: not enough memory (CUDA out of memory. Tried to allocate 20 GiB.); {slower}",
        "gone.nii: gone.nii can't be read or written (No such file or directory)",
    ]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("not predicted: ")]
    assert said == [f"not predicted: {line}" for line in error.value.problems[2:]]  # the first were said before
    assert "Traceback" not in caplog.text


def test_nothing_is_raised_where_nothing_failed_and_a_second_run_begins_anew():
    engine = evaluator("a")
    engine.run()
    engine.run()
    assert engine.problems == []


def test_an_error_of_ours_keeps_its_traceback(caplog):
    engine = evaluator("ours", "a")
    found = predicted(engine)
    with pytest.raises(InputError, match=r"^ours\.nii: KeyError: 'image'$"):
        engine.run()
    assert found == [0, 1]
    assert "Traceback" in caplog.text and "KeyError" in caplog.text


def test_every_line_names_the_file():
    lines = describe_failure(InputError(["scan.nii: one", "two"]), "scan.nii")
    assert lines == ["scan.nii: one", "scan.nii: two"]
