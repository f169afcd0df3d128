"""Errors a user can mend. The command prints them as one line and exits with status 2."""


class TskdError(Exception):
    """Base of every error that is about the input rather than about the program."""


class DatasetError(TskdError):
    """A dataset cannot be used; the message names file, key, row and remedy."""


class ConfigError(TskdError):
    """A config cannot be used; the message names field, value and what is allowed."""


class WorkdirError(TskdError):
    """A working directory cannot be used; the message says why and what to do."""


class DivergenceError(TskdError):
    """Training met a non-finite loss; the message names model, step and what to try."""


class PolicyError(TskdError):
    """A file is not a student."""


class WeightsError(TskdError):
    """A file does not hold the weights that are asked for."""
