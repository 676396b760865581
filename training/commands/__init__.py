"""One file per family of commands, each with `add_X(commands)`, its arguments, and `run_X(arguments)`, its work."""
