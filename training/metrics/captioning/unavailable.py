"""`NotComputed`: a score that this machine lacks something for."""


class NotComputed(RuntimeError):  # noqa: N818 - a state rather than an error
    """Raised for a score that cannot be computed on this machine; the message is the reason and the cure."""
