"""Serialises values to a JSON description and named arrays, without pickle; fingerprints values.

In a description (`spec`), None, bool, int, float and str stand for themselves, and everything else
is a JSON object that names its kind:

{"list": [spec, …]}                         likewise {"tuple": [spec, …]}
{"dict": [[spec of a key, spec], …]}        in the dict's order
{"class": "module:qualname", "fields": {name: spec}}   a frozen dataclass or NamedTuple of tskd_jax
{"array": name}                             a NumPy or JAX array; `name` is its key in the arrays
{"scalar": dtype, "value": number}          a NumPy scalar
{"key": name, "impl": generator}            typed keys of `jax.random`; their data is an array
"""

import dataclasses
import functools
import hashlib
import importlib
import inspect
import json
import weakref
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

PACKAGE = __name__.partition(".")[0]
PLAIN = (type(None), bool, int, float, str)
SCALAR_KINDS = "biuf"  # bool, signed, unsigned, floating
MAX_SCALAR_BYTES = 8  # wider scalars lose precision as Python numbers

ArrayDigest = Callable[[Any], str]


def flatten(value: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Describe a value and collect its arrays.

    Args:
      value: consists of None, bool, int, float, str, lists, tuples, dicts, arrays, typed keys, and
        this package's frozen dataclasses (plain or flax) and NamedTuples.

    Returns:
      (the description, for JSON; the arrays by name, on the host). An array that occurs several
      times is stored once.

    Raises:
      TypeError: the value contains anything else.
    """
    store = _Store()
    return _describe(value, store.name_of, _class_name, _refuse), store.arrays


def restore(spec: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Rebuild the value that `flatten` described, from the given arrays.

    Raises:
      TypeError, ValueError, KeyError, AttributeError, ImportError: the description is invalid, or
        classes have changed since it was written.
    """
    again = functools.partial(restore, arrays=arrays)
    if type(spec) in PLAIN:
        return spec
    match spec:
        case {"array": name}:
            return arrays[name]
        case {"key": name, "impl": impl}:
            return jax.random.wrap_key_data(jax.numpy.asarray(arrays[name]), impl=impl)
        case {"scalar": dtype, "value": number}:
            return np.dtype(dtype).type(number)
        case {"list": items}:
            return [again(item) for item in items]
        case {"tuple": items}:
            return tuple(again(item) for item in items)
        case {"dict": pairs}:
            return {again(key): again(item) for key, item in pairs}
        case {"class": name, "fields": fields}:
            return _construct(_class_named(name), {key: again(v) for key, v in fields.items()})
    raise TypeError(f"{str(spec)[:80]} describes nothing")


def array_digest(array: Any) -> str:
    """SHA-256 of an array's type, shape and numbers, whatever its device or memory layout."""
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    sha = hashlib.sha256(f"{array.dtype.name} {array.shape}\n".encode())
    sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def fingerprint(value: Any, digest: ArrayDigest = array_digest) -> str:
    """SHA-256 of a value's content; equal for equal content in NumPy or JAX arrays.

    Args:
      value: as for `flatten`; also read-only mappings, and dataclasses that are not frozen or not
        of this package. Functions and classes are identified by module and qualified name (bound
        methods and partial functions also by what is bound). The order of a dict does not count.
      digest: computes the digest of an array.

    Raises:
      TypeError: the value contains anything else, whose content is unknown.
    """

    spec = _describe(value, lambda array, _: digest(array), _any_class_name, _describe_more)
    return hashlib.sha256(json.dumps(_without_order(spec), sort_keys=True).encode()).hexdigest()


class FrozenArrays:
    """Digests of immutable arrays, each computed only once."""

    def __init__(self) -> None:
        self._digests: dict[int, tuple[weakref.ref, str | None]] = {}

    def freeze(self, array: np.ndarray) -> np.ndarray:
        """A read-only view of an array, whose digest is cached as long as the view exists."""
        view = array.view()
        view.flags.writeable = False
        self._remember(view, None)
        return view

    def digest(self, array: Any) -> str:
        """Like `array_digest`, but cached for frozen arrays and JAX arrays, which are immutable."""
        reference, known = self._digests.get(id(array), (None, None))
        frozen = reference is not None and reference() is array
        if frozen and known is not None:
            return known
        computed = array_digest(array)
        if frozen or isinstance(array, jax.Array):
            self._remember(array, computed)
        return computed

    def _remember(self, array: Any, digest: str | None) -> None:
        place = id(array)

        def forget(reference: weakref.ref) -> None:
            # Another array may have reused this id by now.
            if self._digests.get(place, (None, None))[0] is reference:
                del self._digests[place]

        self._digests[place] = weakref.ref(array, forget), digest


class _Store:
    """Collects arrays, named by consecutive numbers."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[int, str] = {}

    def name_of(self, array: Any, shared: bool) -> str:
        """Store an array and return its name; if `shared`, a repeated array is stored only once."""
        if shared and id(array) in self._names:
            return self._names[id(array)]
        name = str(len(self.arrays))
        self.arrays[name] = np.asarray(array)
        if shared:
            self._names[id(array)] = name
        return name


def _describe(
    value: Any,
    reference: Callable[[Any, bool], str],
    class_name: Callable[[type], str],
    otherwise: Callable[[Any, Callable[[Any], Any]], Any],
) -> Any:
    """Describe a value.

    Args:
      value: the value to describe.
      reference: (array, whether it lives as long as the value) -> its name in the description.
      class_name: gives the name of a dataclass or NamedTuple.
      otherwise: (a value of another kind, a function that describes its parts) -> description.
    """

    def describe(part: Any) -> Any:
        return _describe(part, reference, class_name, otherwise)

    if type(value) in PLAIN:
        return value
    if _is_scalar(value):
        return {"scalar": value.dtype.name, "value": value.item()}
    if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = reference(jax.random.key_data(value), False)
        return {"key": data, "impl": str(jax.random.key_impl(value))}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return {"array": reference(_numbers(value), True)}
    if type(value) in (list, tuple):
        return {type(value).__name__: [describe(item) for item in value]}
    if type(value) is dict:
        return {"dict": [[describe(key), describe(item)] for key, item in value.items()]}
    if _has_fields(type(value)):
        fields = {name: describe(getattr(value, name)) for name in _field_names(type(value))}
        return {"class": class_name(type(value)), "fields": fields}
    return otherwise(value, describe)


def _is_scalar(value: Any) -> bool:
    plain = isinstance(value, np.generic) and value.dtype.kind in SCALAR_KINDS
    return plain and value.dtype.itemsize <= MAX_SCALAR_BYTES


def _numbers(array: Any) -> Any:
    """Return the array if it holds numbers; JAX types that NumPy lacks (bfloat16) have kind V."""
    if array.dtype.kind not in (*SCALAR_KINDS, "c", "V") or array.dtype.names:
        raise TypeError(f"an array of {array.dtype} cannot be stored: it holds no numbers")
    return array


def _without_order(spec: Any) -> Any:
    """The description with the entries of each dict sorted."""
    match spec:
        case list():
            return [_without_order(item) for item in spec]
        case {"class": name, "fields": fields}:
            return {"class": name, "fields": {k: _without_order(v) for k, v in fields.items()}}
        case {"dict": pairs}:
            by_key = sorted(pairs, key=lambda pair: json.dumps(pair[0], sort_keys=True))
            return {"dict": _without_order(by_key)}
        case dict():
            return {kind: _without_order(item) for kind, item in spec.items()}
    return spec


# Classes and functions


def _has_fields(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields"))


def _field_names(cls: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    return cls._fields


def _any_class_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _class_name(cls: type) -> str:
    """The name by which `restore` finds a class."""
    name = _any_class_name(cls)
    if _class_named(name) is not cls:
        raise TypeError(f"a {name} cannot be stored: that name is another class's")
    return name


def _class_named(name: str) -> type:
    """Look up a frozen dataclass or NamedTuple of this package by its name."""
    module, _, qualname = name.partition(":")
    # Importing __main__ would run the command.
    if not module.startswith(f"{PACKAGE}.") or module.endswith("__main__"):
        raise TypeError(f"a {name} cannot be stored: it is no class of {PACKAGE}")
    try:
        cls = functools.reduce(getattr, qualname.split("."), importlib.import_module(module))
    except AttributeError as error:
        raise TypeError(f"a {name} cannot be stored: {module} has no class {qualname}") from error
    if not isinstance(cls, type) or not _has_fields(cls):
        raise TypeError(f"a {name} cannot be stored: it is neither dataclass nor NamedTuple")
    if dataclasses.is_dataclass(cls) and not cls.__dataclass_params__.frozen:  # pyright: ignore[reportAttributeAccessIssue]
        raise TypeError(f"a {name} cannot be stored: it is not frozen")
    return cls


def _construct(cls: type, fields: dict[str, Any]) -> Any:
    if missing := set(_field_names(cls)) ^ set(fields):
        raise TypeError(f"{cls.__name__} has other fields ({', '.join(sorted(missing))})")
    if not dataclasses.is_dataclass(cls):
        return cls(**fields)
    later = {field.name for field in dataclasses.fields(cls) if not field.init}
    value = cls(**{name: field for name, field in fields.items() if name not in later})
    for name in later:
        object.__setattr__(value, name, fields[name])
    return value


def _refuse(value: Any, _describe: Callable[[Any], Any]) -> Any:
    raise TypeError(
        f"a {_any_class_name(type(value))} cannot be stored: results are arrays, numbers, text, "
        f"lists, tuples, dicts, and frozen dataclasses and NamedTuples of {PACKAGE}"
    )


def _describe_more(value: Any, describe: Callable[[Any], Any]) -> Any:
    """Describe a function by its name and what is bound to it; a read-only mapping as a dict."""
    if isinstance(value, MappingProxyType):
        return describe(dict(value))
    if isinstance(value, functools.partial):
        bound = [list(value.args), value.keywords]
        return {"partial": describe(value.func), "arguments": describe(bound)}
    if not callable(value) or not hasattr(value, "__qualname__"):
        raise TypeError(f"a {_any_class_name(type(value))} has no fingerprint")
    named = {"function": f"{value.__module__}:{value.__qualname__}"}
    if inspect.ismethod(value):
        named["self"] = describe(value.__self__)
    return named
