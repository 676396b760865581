"""Training, evaluation and data of UpDown: never pushed to the Hub, built on the public door `modeling_updown`."""
