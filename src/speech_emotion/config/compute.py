"""Re-export for the modules that decide the weights; they import from `params` after the next training."""

from speech_emotion.config.params import ComputeSettings as ComputeSettings
