"""Interrupt a bundle's run at a chosen place, as a kill would."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bundle.path import import_bundle


class Killed(BaseException):
    """No Exception, so that nothing on the way treats it as an error that it knows."""


def kill_at(bundle: str, patch: pytest.MonkeyPatch, place: str, number: int, when: str) -> None:
    """Raise at the checkpoint of an epoch of a stage, or (`when` empty) at the n-th label of a bank (round_1)."""
    if not when:  # a bank
        bank = import_bundle(bundle, "common.pseudo_labels.store").PseudoLabelBank
        save, count = bank.save, []

        def dying_save(self, *arguments, **options):
            # a bank may lie in a folder that is named by what its labels depend on
            count.extend([1] if place in (Path(self.folder).name, Path(self.folder).parent.name) else [])
            if len(count) == number:
                raise Killed
            return save(self, *arguments, **options)

        patch.setattr(bank, "save", dying_save)
        return
    checkpoint = import_bundle(bundle, "common.training.checkpoint").StageCheckpoint
    keep = checkpoint.save

    def dying_keep(self, engine):
        at = self.stage == place and engine.state.epoch == number
        if at and when == "before":
            raise Killed
        keep(self, engine)
        if at:
            raise Killed

    patch.setattr(checkpoint, "save", dying_keep)


def was_killed(error: BaseException | None) -> bool:
    """Return whether Killed is among the causes of an error: MONAI wraps whatever a config expression raises."""
    while error is not None:
        if isinstance(error, Killed):
            return True
        error = error.__cause__ or error.__context__
    return False
