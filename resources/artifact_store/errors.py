"""Names what is wrong with a store, whichever client raises it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_assets.domain.formatting import excerpt
from llmops_assets.machine.disk_space import DiskFull, folder_named_by, full, is_full
from resources.artifact_store.artifact import StoreDenied, StoreError


@contextmanager
def store_errors(url: str, is_local: bool, folder: Path) -> Iterator[None]:
    """Translates the errors of fsspec's clients inside the block.

    Args:
        folder: where this machine writes: the store, or the cache of a remote one.

    Raises:
        StoreDenied: the store refuses access or does not answer.
        DiskFull: this machine has no room.
    """
    try:
        yield
    except PermissionError as error:
        raise StoreDenied(
            f"the store {url} refuses access ({error}). Remedy: check the credentials in the environment "
            "(for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and what they may do"
        ) from error
    except (StoreError, StoreDenied, FileNotFoundError):
        raise
    except Exception as error:  # botocore's and aiohttp's errors are no OSErrors
        if isinstance(error, OSError) and is_full(error):
            raise DiskFull(full("an artifact of the store", folder_named_by(error, folder))) from error
        if is_local:
            raise
        said = excerpt(str(error).strip(), 300)
        raise StoreDenied(
            f"the store {url} does not answer ({type(error).__name__}: {said}). Nothing was changed; work "
            "continues when it answers"
        ) from error
