"""Rows of statements about images, each true of them or not: entailment, pairs."""
