"""Tests of fine points, in their official layouts: right captions beside subtly wrong ones."""
