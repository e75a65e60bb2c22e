"""A ZIP of a study becomes its files: sizes are counted as the bytes come out, never believed.

The archive's own directory is small or refused, its entries are stored or deflated and nothing
else, and every limit of an upload holds for what comes out of it.
"""

from __future__ import annotations

import errno
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath

from app.intake.examine import Upload, harmless_name
from app.settings import Settings
from app.store.blobs import Blobs
from imaging.errors import TooLarge, UnreadableFile, said

MAGIC = b"PK\x03\x04"
MAGICS = (MAGIC, b"PK\x05\x06", b"PK\x07\x08")
END = b"PK\x05\x06"
END_BYTES = 22 + 65_535
"""The end record with the longest comment that it may have (APPNOTE 4.3.16)."""
MAX_DIRECTORY_BYTES = 8 << 20
MAX_RATIO = 200
BLOCK = 1 << 20
# What a PACS or a desktop puts beside the images of a study.
NO_IMAGES = frozenset({"DICOMDIR", ".DS_Store", "Thumbs.db", "desktop.ini"})
REMEDY = "Send the images as they are, or a plain ZIP of them without a password."


def unpack(uploads: Sequence[Upload], *, blobs: Blobs, settings: Settings) -> list[Upload]:
    """The uploads with every ZIP replaced by its files; the ZIP itself is discarded.

    Raises UnreadableFile and TooLarge; then all files that came out are discarded.
    """
    found: list[Upload] = []
    try:
        for upload in uploads:
            if _is_zip(upload):
                found += _entries(upload, len(found), blobs, settings)
                upload.incoming.discard()
            else:
                found.append(upload)
        if len(found) > settings.max_files:
            raise _too_many(settings)
    except BaseException:
        for upload in found:
            upload.incoming.discard()
        raise
    return found


def _is_zip(upload: Upload) -> bool:
    upload.incoming.finish()
    with upload.incoming.path.open("rb") as file:
        return file.read(4) in MAGICS


def _entries(archive: Upload, before: int, blobs: Blobs, settings: Settings) -> list[Upload]:
    found: list[Upload] = []
    left = settings.max_body_bytes
    try:
        _check_directory(archive)
        with zipfile.ZipFile(archive.incoming.path) as opened:
            for entry in opened.infolist():
                if entry.is_dir() or _passed_over(entry.filename):
                    continue
                _check_entry(archive, entry)
                if before + len(found) >= settings.max_files:
                    raise _too_many(settings)
                incoming = blobs.incoming()
                name = harmless_name(entry.filename, before + len(found) + 1)
                found.append(Upload(name=name, incoming=incoming))
                most = min(left, settings.max_file_bytes, entry.compress_size * MAX_RATIO + BLOCK)
                with opened.open(entry) as file:
                    while block := file.read(BLOCK):
                        if incoming.size_bytes + len(block) > most:
                            raise TooLarge(
                                f"{name} in {archive.name} unpacks to more than is allowed.",
                                remedy="Send fewer images at once, not packed.",
                            )
                        incoming.write(block)
                left -= incoming.size_bytes
                incoming.finish()
                _refuse_nested(archive, found[-1])
    except BaseException as error:
        for upload in found:
            upload.incoming.discard()
        if _of_the_archive(error):
            raise UnreadableFile(
                f"{archive.name} is a damaged ZIP: {said(error)}", remedy=REMEDY
            ) from None
        raise
    if not found:
        raise UnreadableFile(f"{archive.name} holds no image.", remedy=REMEDY)
    return found


def _of_the_archive(error: BaseException) -> bool:
    """True for what zipfile and zlib raise over a damaged archive, an offset before it included."""
    if isinstance(error, OSError):
        return error.errno == errno.EINVAL
    damage = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError)
    return isinstance(error, (*damage, ValueError, OverflowError, struct.error))


def _check_directory(archive: Upload) -> None:
    """Raises UnreadableFile for a directory that would fill the memory before it is looked at."""
    path = archive.incoming.path
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - END_BYTES))
        tail = file.read()
    at = tail.rfind(END)
    size = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else None
    if size is None or size > MAX_DIRECTORY_BYTES:
        raise UnreadableFile(
            f"{archive.name} is no whole ZIP, or one with far too many entries.", remedy=REMEDY
        )


def _check_entry(archive: Upload, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    plain = PurePosixPath(PureWindowsPath(name).as_posix())
    if ".." in plain.parts or plain.is_absolute() or PureWindowsPath(name).drive:
        raise UnreadableFile(f"{archive.name} has an entry that points out of it.", remedy=REMEDY)
    if entry.flag_bits & 0x1:
        raise UnreadableFile(f"{archive.name} is encrypted.", remedy=REMEDY)
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise UnreadableFile(f"{archive.name} has an entry that is a link.", remedy=REMEDY)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableFile(
            f"{archive.name} is packed in a way that is not unpacked here.", remedy=REMEDY
        )


def _refuse_nested(archive: Upload, inner: Upload) -> None:
    if _is_zip(inner):
        raise UnreadableFile(f"{archive.name} has a ZIP inside it.", remedy=REMEDY)


def _passed_over(name: str) -> bool:
    parts = PurePosixPath(PureWindowsPath(name).as_posix()).parts
    return not parts or parts[-1] in NO_IMAGES or parts[0] == "__MACOSX"


def _too_many(settings: Settings) -> TooLarge:
    return TooLarge(
        f"More than {settings.max_files} files came in one upload.",
        remedy="Send the study as multi-frame clips, or in parts.",
    )
