"""The 128 bytes before a DICOM file, which no reader of DICOM looks at and others do (PS3.10 7.1).

A file that is a program as well as an image passes every check of an image and is run as a
program. What a preamble holds is never kept; where it begins as another kind of file does, the
file is refused. A TIFF header there is PS3.10's own use of it, and only taken out.
"""

from __future__ import annotations

from imaging.errors import UnreadableFile

SIZE = 128
MARK = b"DICM"
KINDS = (
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"\xca\xfe\xba\xbe", "a macOS or Java program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xce\xfa\xed\xfe", "a macOS program"),
    (b"dex\n", "an Android program"),
    (b"\0asm", "a WebAssembly program"),
    (b"#!", "a script"),
    (b"%PDF", "a PDF"),
    (b"PK", "a ZIP"),
    (b"Rar!", "an archive"),
    (b"7z\xbc\xaf", "an archive"),
    (b"\x1f\x8b", "an archive"),
    (b"GIF8", "a picture"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"{\\rtf", "a document"),
    (b"\xd0\xcf\x11\xe0", "a document"),
    (b"<", "a web page"),
)


def second_kind(head: bytes) -> str | None:
    """What else the first 132 bytes of a DICOM file say that it is; None: nothing, or no DICOM."""
    if head[SIZE : SIZE + 4] != MARK:
        return None
    begin = head[:SIZE].lstrip(b" \t\r\n\xef\xbb\xbf")
    return next((kind for mark, kind in KINDS if begin.startswith(mark)), None)


def check_one_kind(kind: str | None, name: str) -> None:
    """Raises UnreadableFile for a DICOM file that is something else besides."""
    if kind is not None:
        raise UnreadableFile(
            f"{name} is DICOM and {kind} at once.",
            remedy="Export the image again from the scanner or PACS; find out where this came "
            "from.",
        )


def without_preamble(head: bytes) -> bytes:
    """The beginning of a file, 132 bytes or more, with nothing in the preamble if it is DICOM."""
    if head[SIZE : SIZE + 4] != MARK:
        return head
    return bytes(SIZE) + head[SIZE:]
