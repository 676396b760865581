"""The official evaluators' numbers as pure functions, one file per family of tasks."""
