"""Errors that are meant for a person: what is wrong, where, and what to do about it."""


class UserError(Exception):
    """Bad input or an unusable artifact.

    The message is one or two sentences that name the wrong value, its place and the remedy. The
    command line prints it without a stack trace; library callers can catch it.
    """


class NonFiniteLossError(UserError):
    """A loss is not finite. Raised before any parameter is updated with it."""
