"""What regions and models know beside the scores of their tasks: a command a file, `python -m training.probes.NAME`."""
