"""Errors that a user can fix. The command prints them on one line and exits with status 2."""


class TskdError(Exception):
    """Base class of errors that are caused by the input or the machine, not by a bug."""


class DatasetError(TskdError):
    """A dataset cannot be used; the message names file, key, row and remedy."""


class ConfigError(TskdError):
    """A config cannot be used; the message names field, value and what is allowed."""


class WorkdirError(TskdError):
    """A working directory cannot be used; the message says why and what to do."""


class InUseError(WorkdirError):
    """Another running process uses a directory; the message names it."""


class DivergenceError(TskdError):
    """Training diverged; the message names model, step, batch and what to try."""


class JobError(TskdError):
    """Several processes cannot form or continue one job; the message says why, and which failed."""


class DeviceError(TskdError):
    """There is no such device; the message names the requested platform and a remedy."""


class OutOfMemoryError(TskdError):
    """Something does not fit into memory; the message says how much it needs and what to try."""


class ReplayError(TskdError):
    """A summary cannot be repeated; the message says why."""


class PolicyError(TskdError):
    """A file is not a valid student, or a policy's input or contract is invalid."""


class ExportError(TskdError):
    """A student cannot be exported; the message names the format and says why."""


class WeightsError(TskdError):
    """A file does not hold the requested weights."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its type if the message is empty."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
