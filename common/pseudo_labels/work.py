"""What is done case by case and kept on disk: which process does which case, and what a resumed run finds done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from torch import Tensor

from ..files.tensor_files import listed
from ..launch.words import truth
from ..processes import all_done, own_share, together
from ..run.run import Run
from .store import PseudoLabelBank

Item = Mapping[str, Any]


def settings_digest(*settings: Any) -> str:
    """Return 8 hex digits that stand for settings: tensors count by their values as float32, all else by its `repr`."""
    digest = sha256()
    for one in settings:
        if isinstance(one, Tensor):
            digest.update(one.detach().float().cpu().contiguous().numpy().tobytes())
        else:
            digest.update(repr(one).encode())
    return digest.hexdigest()[:8]


class CaseWork:
    """Banks of what is made of each case, in a folder named by what it depends on; several processes share the cases.

    What was made from other settings lies elsewhere, so that a resumed run never goes on with it.

    Args:
        folder: holds a folder for each identity.
        identity: of the settings and inputs, see `settings_digest`.
        resume: keep what an interrupted run of this identity has left, and make what is missing.
    """

    def __init__(self, folder: str | Path, identity: str, resume: bool = False) -> None:
        self.root, self.folder, self.resume = (
            Path(folder).expanduser(),
            Path(folder).expanduser() / identity,
            truth("resume", resume),
        )

    def bank(self, name: str = "") -> PseudoLabelBank:
        """Return the bank of one kind of label; without a name that of the folder itself."""
        return PseudoLabelBank(self.folder / name, self.run)

    @property
    def run(self) -> str | None:
        """Id of the run whose cache the folder is part of; None where it is of no run."""
        for folder in (self.root, self.root.parent):
            if (folder / Run.ID_FILE).is_file():
                return (folder / Run.ID_FILE).read_text(encoding="utf-8").strip()
        return None

    def remove_stale(self, of_all_settings: bool = False) -> None:
        """Unless resumed, remove what an earlier run has left: a resumption of this one would take it for its own.

        Args:
            of_all_settings: of every identity, for one that changes from run to run.
        """
        if self.resume:
            return
        if idist.get_rank() == 0:
            for folder in self.root.glob("*") if of_all_settings else [self.folder]:
                for pattern in ("*.safetensors", "*/*.safetensors"):
                    for stale in folder.glob(pattern):
                        stale.unlink(missing_ok=True)
        idist.barrier()

    def missing(self, cases: Iterable[Item], bank: PseudoLabelBank) -> list[Item]:
        """Return this process's share of the cases {"case", ...}, without those that a resumed run finds in a bank."""
        own = own_share(cases)
        if not self.resume:
            return own
        missing = [item for item in own if item["case"] not in bank]
        foreign = [item["case"] for item in missing if bank.path(item["case"]).exists()]
        if foreign:
            print(f"warning: {bank.folder}: made anew for {listed(foreign)}: damaged, or of another run", flush=True)
        return missing

    def each(self, cases: Iterable[Item], bank: PseudoLabelBank, description: str | None = None) -> Iterator[Item]:
        """Yield what is `missing`, under a progress line if it has a description, and wait for the other processes."""
        yield from together(self.missing(cases, bank), description)

    def do_each(
        self,
        cases: Iterable[Item],
        bank: PseudoLabelBank,
        do: Callable[[Any], Any],
        description: str | None = None,
        read: Callable[[Item], Any] | None = None,
        device: torch.device | str = "cpu",
        times: float = 1.0,
    ) -> None:
        """Do with each of these what makes no difference to the others, on a CPU several at once; see `all_done`."""
        all_done(self.missing(cases, bank), do, description, read, device, times)
