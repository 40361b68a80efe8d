"""What networks of several methods learn by: losses, schedules, averages, distillation, a light U-Net."""
