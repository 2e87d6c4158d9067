"""tuspy, the tus client of the package index, as a process that may be killed at any moment."""

from __future__ import annotations

import time

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage
from tusclient.uploader.uploader import Uploader

AGAIN_S = 0.05
TRIES = 400


def send(endpoint: str, token: str, file: str, urls: str, chunk_bytes: int, checksums: bool) -> None:
    """Sends the file to its end, from where the upload stands whose URL tuspy keeps in the file `urls`."""
    client = TusClient(endpoint, headers={"Authorization": f"Bearer {token}"})
    _uploader(client, file, urls, chunk_bytes, checksums).upload()


def _uploader(client: TusClient, file: str, urls: str, chunk_bytes: int, checksums: bool) -> Uploader:
    """It asks for the offset when it is made, and does not repeat that by itself while the upload is locked."""
    for left in reversed(range(TRIES)):
        try:
            return client.uploader(
                file,
                chunk_size=chunk_bytes,
                metadata={"filename": "talk ü.mp4"},
                retries=TRIES,
                retry_delay=AGAIN_S,
                store_url=True,
                url_storage=FileStorage(urls),  # type: ignore[no-untyped-call]
                upload_checksum=checksums,
            )
        except TusCommunicationError as error:
            if error.status_code != 423 or left == 0:
                raise
            time.sleep(AGAIN_S)
    raise AssertionError
