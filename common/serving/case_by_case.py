"""Prediction case by case: what fails for one scan is said, and costs no other its result."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import Dataset
from monai.engines import SupervisedEvaluator

from ..data.inputs import PROBLEMS
from ..errors import InputError, causes, find_input_error, printable, wants_gpu_memory, wants_memory
from ..volumes.volume import first_line, last_line

SAID = "said"  # whether the problems of a case have been printed


class CaseDataset(Dataset):
    """MONAI's `Dataset`, in which a case that can't be prepared becomes {"problems": lines, "said": bool}.

    So does one that has `problems` already, as from `read_images`; they count as said.
    """

    def _transform(self, index: int) -> Any:
        case = self.data[index]
        if PROBLEMS in case:
            return {PROBLEMS: "\n".join(case[PROBLEMS]), SAID: True}
        try:
            return super()._transform(index)
        except Exception as error:
            return {PROBLEMS: "\n".join(describe_failure(error, case["image"])), SAID: False}


class CaseEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator` over a `CaseDataset`, one case a batch, that goes on where a case fails.

    What fails is said at once, in a line or more that name the file. An error that is nobody's input is shown with its
    traceback, too.

    Raises:
        InputError: at the end of `run`, the lines of all cases that failed.
    """

    def run(self) -> None:
        self.problems: list[str] = []
        super().run()
        if self.problems:
            raise InputError(self.problems)

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> Any:
        if PROBLEMS in batchdata:
            for text, said in zip(batchdata[PROBLEMS], batchdata[SAID], strict=True):
                self._note(text.splitlines(), bool(said))
            return []
        try:
            return super()._iteration(engine, batchdata)
        except Exception as error:
            self._note(describe_failure(error, _path(batchdata)), said=False)
            engine.state.output = []
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return []

    def _note(self, lines: list[str], said: bool) -> None:
        self.problems += lines
        for line in lines if not said else ():
            print(f"not predicted: {printable(line)}", file=sys.stderr, flush=True)


def describe_failure(error: BaseException, path: str) -> list[str]:
    """Return what an error says of a scan, one line or more that name its file.

    The traceback of an error that is none of bad input, memory or disk is logged, since it is ours.
    """
    found = find_input_error(error)
    if found is not None:
        return [line if str(path) in line else f"{path}: {line}" for line in found.problems]
    for cause in causes(error):
        if wants_memory(cause):
            slower = "device cpu, " if wants_gpu_memory(cause) else ""
            wanted = f"wanted a smaller scan, {slower}or a larger machine"
            return [f"{path}: not enough memory ({first_line(cause)}); {wanted}"]
        if isinstance(cause, OSError):
            return [f"{path}: {cause.filename or 'a file'} can't be read or written ({cause.strerror or cause})"]
        if "cannot find a suitable writer" in str(cause):  # MONAI puts the traceback of the writer into the text
            return [f"{path}: its result can't be written ({last_line(cause)})"]
    logging.getLogger(__name__).error("%s", path, exc_info=error)
    cause = list(causes(error))[-1]
    return [f"{path}: {type(cause).__name__}: {first_line(cause)}"]


def _path(batchdata: Mapping[str, Any]) -> str:
    names = getattr(batchdata.get("image"), "meta", {}).get("filename_or_obj", "scan")
    return str(names if isinstance(names, str) else next(iter(names), "scan"))
