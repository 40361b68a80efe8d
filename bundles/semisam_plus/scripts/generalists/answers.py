"""The generalists' answers on the unlabelled cases, asked for in rounds and kept on disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from ..common.cohorts.few_labels import FewLabelCohort
from ..common.costs.pieces import Pieces, pieces
from ..common.grid.field_of_view import inside_scan
from ..common.launch import words
from ..common.processes import own_share, together
from ..common.pseudo_labels.opinions import select_by_quality
from ..common.pseudo_labels.store import PseudoLabelBank
from ..common.pseudo_labels.work import CaseWork, settings_digest
from ..common.run.run import Run
from ..common.tensors import background_beyond, mean_where, plain
from .panel import GeneralistPanel


class GeneralistAnswers:
    """Let the specialist prompt the generalists on each unlabelled volume, and keep what they answer.

    Volumes are asked about as they are; augmentation comes after (`AddAnswersd`), so a volume is embedded once and
    answered once a round. Several processes share the cases.

    Args:
        cohort: knows who is unlabelled.
        images: sequence of {"case", "image" [1, H, W, D]} on the common grid.
        panel: the generalists.
        inferer: (image, network) -> log-probabilities.
        folder: where answers lie; those of an interrupted run are used again where `resume`.
        first: epoch of the first round.
        every: epochs from one round to the next; 0: there are no rounds, the generalists are asked in each step.
        cases_per_round: unlabelled cases asked about in a round, in turn; None for all. The others keep what they have.
        keep: share of the answers that pass the gate that are learnt from: those of the highest agreement with the
            specialist, which without truth says best how good an answer is.
        save_every: epochs between two checkpoints. The rounds of the last two stay on disk, so that a resumed run finds
            those it goes back to.
    """

    def __init__(
        self,
        cohort: FewLabelCohort,
        images: Sequence[Mapping[str, Any]],
        panel: GeneralistPanel,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        folder: str,
        first: int = 1,
        every: int = 1,
        cases_per_round: int | None = None,
        keep: float = 1.0,
        save_every: int = 1,
        device: str | torch.device = "cpu",
        resume: bool = False,
    ) -> None:
        self.cohort, self.images, self.panel, self.inferer = cohort, images, panel, inferer
        self.first = int(words.number("generalist_from", first, whole=True, least=1))
        self.every = int(words.number("answer_every", every, whole=True, least=0))
        self.cases_per_round = words.optional_number("answer_cases", cases_per_round, whole=True, least=1)
        self.keep, self.keep_rounds = keep, 2 + math.ceil(2 * save_every / max(1, self.every))
        self.device, self.resume = torch.device(device), words.truth("resume", resume)
        self._folder = Path(folder).expanduser()
        self.round = 0
        self._bank: dict[str, PseudoLabelBank] = {}
        self._chosen: set[str] = set()

    @property
    def work(self) -> CaseWork:
        """What is kept of these generalists, this grid and these labelled cases."""
        # not known before the trial has silenced whom it silences
        labelled = [case["case"] for case in self.cohort.labeled]
        identity = settings_digest((self.panel.identity, self.cohort.grid.as_dict(), labelled))
        return CaseWork(self._folder, identity, self.resume)

    @property
    def in_rounds(self) -> bool:
        """Whether there are generalists that are asked in rounds."""
        return bool(self.panel.names) and self.every > 0

    @property
    def folder(self) -> Path:
        """Where these answers lie: what others said, or on another grid or to another specialist, lies elsewhere."""
        return self.work.folder

    def bank(self, number: int) -> PseudoLabelBank:
        """Return the answers of a round (from 1)."""
        return self.work.bank(f"round_{number}")

    def prepare(self) -> None:
        """Embed the volumes of the first round, and drop the answers of an earlier run unless it is resumed."""
        if not self.panel.teaching:
            return
        self.work.remove_stale()
        for case in together(own_share(self.asked(1))):
            self.panel.embed(self.image(case))

    def ask(self, number: int, specialist: nn.Module) -> None:
        """Make the answers of a round from the specialist's predictions; finished ones on disk are kept."""
        bank = self.bank(number)
        for case in self.work.each(self.asked(number), bank):
            image = self.image(case)
            inside = inside_scan(self.item(case)["image"]).to(self.device)
            probabilities = self.predict(image[None].to(self.device), specialist)
            probabilities = background_beyond(probabilities[None], inside[None])[0]
            found = self.panel.ask(self.panel.embed(image), probabilities)
            judgement = {"weight": found.weight, "agreement": found.agreement, "mutual": found.mutual}
            judgement["disagreement"] = float(mean_where(found.disagreement[None], inside[None]))
            answer = found.answer * inside.to(found.answer.device)  # nothing is said beyond the scan
            tensors = {"answer": answer.half(), "disagreement": found.disagreement.half()}
            bank.save(case["case"], tensors, **judgement)
        self.enter(number)

    def asked(self, number: int) -> list[dict]:
        """Return the cases of a round: a window that moves over the unlabelled cases; none where nobody teaches."""
        cases = self.cohort.unlabeled if self.panel.teaching else []
        count = min(self.cases_per_round or len(cases), len(cases))
        return [cases[((number - 1) * count + i) % len(cases)] for i in range(count)]

    def share(self, rounds: int = 1) -> Pieces:
        """Return how many answers so many rounds ask for, and of how many of these the files stay."""
        here, in_all, *_ = pieces(self.cohort.unlabeled if self.panel.teaching else [], self.cases_per_round)
        return Pieces(here, rounds * in_all, min(rounds, self.keep_rounds) * in_all, again=True)

    def enter(self, number: int) -> None:
        """Let `load` give the answers that were current after a round."""
        self.round = number
        made = {n: self.bank(n) for n in range(1, number + 1)}
        self._bank = {case["case"]: made[n] for n in made for case in self.asked(n) if case["case"] in made[n]}
        judged = {case: bank.judgement(case) for case, bank in self._bank.items()}
        passed = {case: found["agreement"] for case, found in judged.items() if found["weight"] > 0}
        self._chosen = set(select_by_quality(passed, self.keep))
        used = {bank.folder for bank in self._bank.values()}
        for n, bank in made.items():
            if n <= number - self.keep_rounds and bank.folder not in used and idist.get_rank() == 0:
                shutil.rmtree(bank.folder, ignore_errors=True)

    def load(self, case: str) -> dict[str, Any] | None:
        """Return `answer` [K, H, W, D], `disagreement` [1, H, W, D] and `weight`; None where there is no answer yet."""
        if case not in self._bank:
            return None
        return {**self._bank[case].load(case), "weight": self.judgement(case)["weight"]}

    def judgement(self, case: str) -> dict[str, float]:
        """Return an answer's weight (0: not learnt from), agreement with the specialist and mean disagreement."""
        found = self._bank[case].judgement(case)
        return found if case in self._chosen else {**found, "weight": 0.0}

    @property
    def answered(self) -> list[str]:
        """Cases that have an answer."""
        return list(self._bank)

    def predict(self, image: Tensor, specialist: nn.Module) -> Tensor:
        """Return the specialist's probabilities [K, H, W, D] of an image [1, 1, H, W, D]."""
        with eval_mode(specialist):
            return self.inferer(image, specialist).exp()[0]

    def image(self, case: Mapping[str, Any]) -> Tensor:
        """Return the image [1, H, W, D] of one of the cohort's cases, a plain float32 tensor."""
        return plain(self.item(case)["image"]).float()

    def item(self, case: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return one of the cohort's cases as it is loaded."""
        return self.images[[known["case"] for known in self.cohort.cases].index(case["case"])]


class AnswerRounds:
    """Handler of a trainer: at the start of the epochs of a round the generalists are asked anew.

    Asked with the EMA teacher of the trainer's objective where it has one, else with its network.

    Args:
        answers: ask and keep; where they don't come in rounds, nothing is done.
        run: counts what asking costs.
    """

    def __init__(self, answers: GeneralistAnswers, run: Run) -> None:
        self.answers, self.run = answers, run

    def attach(self, engine: Engine) -> None:
        if self.answers.in_rounds:
            engine.add_event_handler(Events.EPOCH_STARTED, self.start_round)

    def start_round(self, engine: Engine) -> None:
        since = engine.state.epoch - self.answers.first
        if since < 0:
            return
        number = since // self.answers.every + 1
        if number != self.answers.round:
            teacher = getattr(engine.objective, "teacher", None)
            specialist = engine.network if teacher is None else teacher
            rounds = (engine.state.max_epochs - self.answers.first) // self.answers.every + 1
            share = self.answers.share(rounds)
            self.run.measure("ask generalists", lambda: self.answers.ask(number, specialist), share)
