"""Questions whose answers are read in an image, with the OCR words where they are given."""
