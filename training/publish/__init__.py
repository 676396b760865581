"""A trained model -> a Hub repository: its folder, its card, the check that it loads."""
