"""From what a user asks of `share --writable` to the place where pushed content is kept."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.net import is_loopback
from modelrunner.operations.serve.keys import KEY_VARIABLE
from modelrunner.share.repositories import is_taken
from modelrunner.share.writing.quota import Quota
from modelrunner.share.writing.requests import Writing
from modelrunner.share.writing.storage import PushedContent
from modelrunner.store.store import Store
from modelrunner.units import SIZE_HINT, parse_size


@contextmanager
def writing_to(
    folder: Path,
    store: Store,
    serves: Callable[[str], bool] | None,
    host: str,
    environ: Mapping[str, str],
    limits: tuple[str | None, str | None] = (None, None),
) -> Iterator[Writing]:
    """The block in which a shared store can be written to.

    Args:
        folder: Where pushed content is kept.
        store: The store: its names cannot be pushed to.
        serves: Whether content of a registry is fetched; None where nothing is.
        host: The address that the share listens on.
        environ: The environment, with the key.
        limits: The largest blob, and the most of all that is pushed, as they were written.

    Raises:
        UsageError: Others could reach it, and there is no key; or a limit is not a size.
        ConfigError: Another process has the place.
        StoreAccessError, DiskFullError: It cannot be written.
    """
    key = environ.get(KEY_VARIABLE) or None
    if key is None and not is_loopback(host):
        raise UsageError(
            f"--writable needs a key where others can reach {host}",
            hint=f"set {KEY_VARIABLE}; clients log in with it as the password of any user",
        )
    quota = Quota(_size("--max-upload", limits[0]), _size("--pushed-size", limits[1]))
    with PushedContent(folder, quota) as content:
        yield Writing(content, lambda name: is_taken(store, name, serves), key)


def _size(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as exc:
        raise UsageError(f"{option}: invalid size {text[:100]!r}", hint=SIZE_HINT) from exc
