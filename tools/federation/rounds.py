"""How the server goes through the rounds: it asks every site, and need not wait for one that is gone.

NVFLARE copies this file into the job, beside the client's: it needs NVFLARE alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.fedavg import FedAvg

RECORD = "rounds.json"


class PatientRounds(FedAvg):
    """NVFLARE's federated averaging, whose own draws a few sites a round and waits for these without an end.

    After each round it writes into RECORD, beside the model, which sites were averaged.

    Args:
        args, kwargs: see FedAvg.
        least: sites that have to answer in every round.
        wait: seconds that the others have from then on, where `least` is fewer than all; what comes later is dropped.
    """

    def __init__(self, *args: Any, least: int = 1, wait: int = 600, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.least, self.wait = least, wait
        self.averaged: list[list[str]] = []

    def sample_clients(self, num_clients: int | None = None) -> list[str]:
        """Return all sites of the job, those too that missed a round: they may be back."""
        return super().sample_clients(None)

    def send_model(self, *args: Any, **kwargs: Any) -> None:
        if self.least < len(kwargs["targets"]):
            kwargs |= {"min_responses": self.least, "wait_time_after_min_received": self.wait}
        self.broadcast_model(*args, blocking=False, **kwargs)

    def save_model(self, model: FLModel) -> None:
        super().save_model(model)
        self.averaged.append(self.aggregator.averaged)
        (Path(self.get_app_dir()) / RECORD).write_text(json.dumps(self.averaged) + "\n", encoding="utf-8")
