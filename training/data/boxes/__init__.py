"""Rows of images with boxes: detection."""
