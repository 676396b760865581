"""Pretrained detectors of other projects that make training boxes for ours."""
