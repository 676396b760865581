"""Converts checkpoints of other projects, one module per model."""
