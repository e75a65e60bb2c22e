"""Compressed objects for peers that take them uncompressed alone."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread

from imaging.dicom.read import boxes_end, panics_refused, plugin_of, syntax_of, tolerant
from imaging.errors import UnreadableFile, said


def decompress(source: Path, target: Path) -> None:
    """Writes the object with its pixels decoded, explicit VR little endian (PS3.5 A.2).

    Raises UnreadableFile for pixels that nobody here can decode.
    """
    boxes_end(source)
    try:
        with tolerant(), panics_refused():
            ds = dcmread(source, force=True)
            plugin = plugin_of(syntax_of(ds))
            ds.decompress(decoding_plugin=plugin, generate_instance_uid=False)
            ds.save_as(target)
    except Exception as error:
        raise UnreadableFile(
            f"The pixels cannot be decoded: {said(error)}",
            remedy="Fetch the object in the transfer syntax that it is stored in.",
        ) from None
