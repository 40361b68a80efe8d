"""nnU-Net's trainer with a budget of CPU time; runs in nnU-Net's own environment, where this file is copied to.

Its planning, patches, network, loss, augmentation, optimizer and learning rate's curve are nnU-Net's. What differs is
when it ends: after CPU_SECONDS of this process, with the rate falling over them as it else does over 1000 epochs. The
last weights count, as nnU-Net's own do; no time is spent on validation.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

BUDGET, THREADS, REPORT = "CPU_SECONDS", "OMP_NUM_THREADS", "cpu_seconds.json"
POWER = 0.9  # of nnU-Net's PolyLRScheduler


class nnUNetTrainerCpuSeconds(nnUNetTrainer):  # found by this name, as all of nnU-Net's
    """Train until the CPU time of this process, from the first step on, is what the environment says."""

    def on_train_start(self) -> None:
        super().on_train_start()
        torch.set_num_threads(int(os.environ.get(THREADS, 1)))  # nnU-Net takes all that the machine has

    def run_training(self) -> None:
        self.on_train_start()
        budget, losses = float(os.environ[BUDGET]), []
        start, wall, spent = time.process_time(), time.time(), 0.0
        self.network.train()
        while spent < budget:
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - spent / budget) ** POWER
            losses.append(float(self.train_step(next(self.dataloader_train))["loss"]))
            spent = time.process_time() - start
            if len(losses) in (1, 2, 5) or len(losses) % 20 == 0:
                self.print_to_log_file(f"step {len(losses)}: loss {losses[-1]:.3f}, {spent:.0f} of {budget:.0f} CPU-s")
        said = {
            "cpu_seconds": spent,
            "wall_seconds": time.time() - wall,
            "steps": len(losses),
            "batch_size": self.batch_size,
            "patch_size": list(self.configuration_manager.patch_size),
            "spacing": list(self.configuration_manager.spacing),
            "last_losses": losses[-20:],
        }
        Path(self.output_folder, REPORT).write_text(json.dumps(said, indent=1))
        self.current_epoch = 1  # the end takes one off
        self.on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Fold all has no case that it has not learnt from."""
