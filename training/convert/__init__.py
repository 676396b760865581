"""Checkpoints of other projects -> our models, one file a model."""
