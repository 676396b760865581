"""How other projects' checkpoints become ours: one file a kind of model, and how any checkpoint is read safely."""
