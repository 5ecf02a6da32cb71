"""Send a record that is written no more, while the caller waits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.compatibility import read_meta
from seismograd.record.places.place_packages import require_packages
from seismograd.record.places.place_url import PlaceUrl
from seismograd.record.places.record_upload import RecordUpload
from seismograd.record.places.spool_files import found_files
from seismograd.record.places.upload_status import (
    UploadState,
    UploadStatus,
    read_status,
    write_status,
)
from seismograd.record.places.watched_process import start_of
from seismograd.record.run_activity import is_going_on


def upload_now(path: Path, url: PlaceUrl | None, told: Callable[[int, int], None]) -> PlaceUrl:
    """Send a record, or what is missing of it, and return where it is: beside `url` where another
    record is there. Without one it goes where it was going before; for a folder, which ends with a
    slash, below that by its own name.

    Raises:
        SeismogradError: there is no record, it is being written or sent, or the place fails.
    """
    read_meta(path)
    status = read_status(path)
    if is_going_on(path) or (status is not None and _is_sent_now(status)):
        raise SeismogradError(
            say("{path} is still being written or sent by another process", path=str(path)),
            say("wait for its end, or a minute after it was killed"),
        )
    if url is None and status is not None:
        url = PlaceUrl(status.url)
    if url is None:
        raise SeismogradError(
            say("{path} was not going to any place", path=str(path)),
            say("name one: seismograd upload RUN s3://bucket/runs/first"),
        )
    if not url.name:
        url = url.child(path.resolve().name)
    require_packages(url)
    upload = RecordUpload(path, url)
    done, total = 0, sum(each.size for each in found_files(path).values())

    def told_of_file(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        told(done, total)

    try:
        upload.complete(told_of_file)
    except SeismogradError:
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise SeismogradError(
            say(
                "cannot write to {url}: {reason}",
                url=upload.url.shown,
                reason=upload.url.without_secrets(text)[:200],
            ),
            say("what has been sent stays there; try again"),
        ) from error
    write_status(path, upload.url.shown, UploadState.COMPLETE)
    return upload.url


def _is_sent_now(status: UploadStatus) -> bool:
    return status.state in (UploadState.RUNNING, UploadState.FAILING) and bool(
        start_of(status.process)
    )
