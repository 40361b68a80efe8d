"""A first label for a client that knows train.json alone, as MONAI Label does."""

from __future__ import annotations

from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow

from ..common.data.datalist import Datalist
from ..common.errors import InputError
from ..common.files.tensor_files import load_tensors
from .network import FORM

BUNDLE = Path(__file__).parents[2]


def run_zero_step(data: Datalist | None, device: str | torch.device = "cpu") -> None:
    """Make model.pt by zero_step.json of the cases that a client has given to train.json.

    Args:
        data: the client's cases; None: it has given none.
        device: torch device, or its name.

    Raises:
        InputError: no client has given cases.
    """
    if data is None:
        raise InputError("zero_step: found no cases of a client, wanted these; without a client: run zero_step.json")
    configs = BUNDLE / "configs"
    flow = ConfigWorkflow(
        str(configs / "zero_step.json"),
        str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(BUNDLE),
        client_data=data,
        device=device,
        num_labeled=None,
    )
    flow.initialize()
    flow.run()
    flow.finalize()


def trained_model(path: str) -> str | None:
    """Return the path of a model.pt that training goes on from; None where there is none, or nothing was trained."""
    place = Path(path).expanduser()
    return path if place.is_file() and f"body.{FORM}" not in load_tensors(place) else None
