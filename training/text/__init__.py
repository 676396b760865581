"""Words: pretrained vectors and word pieces."""
