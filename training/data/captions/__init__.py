"""Rows of images with captions: captioning, retrieval, pretraining."""
