"""One module per family of commands: `add_X(commands)` adds the arguments of command X, `run_X(arguments)` runs it."""
