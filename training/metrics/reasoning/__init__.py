"""Metrics of statements and their images: accuracy of entailment, accuracy and consistency of pairs."""

from .statements import nlvr2, snli_ve

__all__ = ["nlvr2", "snli_ve"]
