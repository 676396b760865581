"""One file per task, each with the same four verbs: rows, inputs, loss, score."""
