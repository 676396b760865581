"""Detectors of other projects that draw boxes for ours to learn."""
