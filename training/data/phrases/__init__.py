"""Rows of expressions and phrases with the boxes that they refer to: grounding."""
