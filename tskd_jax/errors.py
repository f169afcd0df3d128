"""Errors a user can mend. The command prints them as one line and exits with status 2."""


class TskdError(Exception):
    """Base of every error that is about the input rather than about the program."""


class DatasetError(TskdError):
    """A dataset cannot be used; the message names file, key, row and remedy."""


class ConfigError(TskdError):
    """A config cannot be used; the message names field, value and what is allowed."""


class WorkdirError(TskdError):
    """A working directory cannot be used; the message says why and what to do."""


class InUseError(WorkdirError):
    """Another living process works in a directory; the message names it."""


class DivergenceError(TskdError):
    """Training left for infinity; the message names model, step, batch and what to try."""


class JobError(TskdError):
    """Several processes cannot be one job; the message says why, and which one it is."""


class DeviceError(TskdError):
    """There is no such device; the message names the platform asked for and how to go on."""


class OutOfMemoryError(TskdError):
    """Something does not fit into memory; the message says how much it needs and what to try."""


class ReplayError(TskdError):
    """A summary cannot be repeated; the message says why."""


class PolicyError(TskdError):
    """A file is not a student."""


class ExportError(TskdError):
    """A student cannot be exported; the message names the form and says why."""


class WeightsError(TskdError):
    """A file does not hold the weights that are asked for."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
