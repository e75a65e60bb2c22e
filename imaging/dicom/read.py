"""DICOM ultrasound to grey frames, a frame at a time.

Whatever the syntax and colour model, a frame comes out as 8-bit grey: colour by its luma
(Rec. 601), palettes through their tables, MONOCHROME1 turned over, more than 8 bits through the
window that the header gives or over the range that its bits span. 8-bit grey stays as stored.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import generate_frames
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MPEGTransferSyntaxes,
)

from imaging.arrays import ColourImage, GreyImage
from imaging.dicom.header import check_ultrasound, identity_of, number_of_frames, shown_uid, text_of
from imaging.dicom.planes import planes_of
from imaging.dicom.regions import read_scale
from imaging.dicom.shape import check_shape
from imaging.dicom.twelve_bit import iter_twelve_bit
from imaging.dicom.whole import data_set_at
from imaging.errors import ImagingError, TooLarge, UnreadableFile, UnsupportedSyntax, said
from imaging.frame import Clip, FileFacts, FrameSource, grey_frame
from imaging.limits import MEBIBYTE, DecodeLimits
from imaging.video import iter_video

# PS3.5 A.1 to A.3: pixels as they are, so that their bytes can be counted beforehand.
NATIVE = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian})
UNENCODED = NATIVE | {DeflatedExplicitVRLittleEndian}

SWELLS_FREELY = 64 * MEBIBYTE
MAX_SWELLING = 200
"""A deflated data set over 64 MiB is at most so many times its file: no ultrasound is smaller."""
JP2_SIGNATURE, JP2_CODESTREAM, JP2_LEAST = b"\0\0\0\x0cjP  ", b"jp2c", 8
"""ISO/IEC 15444-1 I.4 and I.5.1: a box is its length, its kind, and what it holds."""
PLUGINS = {
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
}
"""Where there is another decoder than gdcm, which ends the process over some damaged streams."""

DAMAGED = "Export the image again from the scanner or PACS; this copy is damaged or cut off."


def looks_like_dicom(head: bytes) -> bool:
    """True for the first 132 bytes or more of a DICOM file, with or without its preamble."""
    if head[128:132] == b"DICM":
        return True
    return head[:4] in (b"\x02\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00")


def read_header(path: Path, name: str, limits: DecodeLimits) -> FileDataset:
    """The header of an ultrasound image, its pixels left in the file.

    Raises UnreadableFile for bytes that are no DICOM image, NotUltrasound for another SOP class,
    TooLarge for sizes over the limits, UnsupportedSyntax for a syntax that nobody here decodes.
    """
    try:
        check_structure(path, name, limits)
        with tolerant():
            with path.open("rb") as file:
                ds = dcmread(file, stop_before_pixels=True, force=True)
                header_bytes = file.tell()
            list(ds.iterall())  # what is read lazily fails here, not later
    except ImagingError:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"{name} is no readable DICOM file: {said(error)}", remedy=DAMAGED
        ) from None
    if not ds:
        raise UnreadableFile(f"{name} is no DICOM file.", remedy=DAMAGED)
    check_ultrasound(ds, name)
    check_syntax(ds, name)
    check_size(ds, path.stat().st_size - header_bytes, name, limits)
    return ds


def facts_of_dicom(path: Path, name: str, limits: DecodeLimits) -> FileFacts:
    """What the header says, with the same refusals as `read_header`."""
    ds = read_header(path, name, limits)
    return FileFacts(
        file=name,
        media="dicom",
        rows=int(ds.Rows),
        columns=int(ds.Columns),
        frame_count=number_of_frames(ds),
        identity=identity_of(ds),
        transfer_syntax_uid=str(syntax_of(ds)),
        has_calibration=read_scale(ds).calibration is not None,
    )


def read_dicom(
    path: Path, *, name: str, frames: Sequence[int] | None, limits: DecodeLimits
) -> Clip:
    """The clip of a DICOM file, the 0-based `frames` of it decoded (None: all).

    Raises what `read_header` raises, and UnreadableFile for pixels that cannot be decoded.
    """
    ds = read_header(path, name, limits)
    count = number_of_frames(ds)
    wanted = list(range(count)) if frames is None else _known(frames, count, name)
    scale = read_scale(ds, wanted)
    uid = text_of(ds, "SOPInstanceUID")
    times = _times_s(ds, count)
    planes = planes_of(ds, wanted, scale.calibration)
    shown = iter_shown(path, ds, wanted, name=name)
    return Clip(
        file=name,
        frames=tuple(
            grey_frame(
                picture,
                source=FrameSource(file=name, frame=index, sop_instance_uid=uid),
                time_s=times[index],
                region=scale.region,
                plane=plane,
            )
            for index, plane, picture in zip(wanted, planes, shown, strict=True)
        ),
        frame_count=count,
        rows=int(ds.Rows),
        columns=int(ds.Columns),
        calibration=scale.calibration,
        calibration_problem=scale.problem,
        region=scale.region,
        identity=identity_of(ds),
        media="dicom",
    )


def iter_shown(
    path: Path, ds: Dataset, frames: Sequence[int], *, name: str
) -> Iterator[GreyImage | ColourImage]:
    """The frames asked for as shown, grey or RGB of 8 bits, one at a time, in rising order."""
    try:
        with closing(decoded_samples(path, ds, frames, name)) as decoded:
            for index in frames:
                with tolerant():
                    samples = next(decoded, None)
                    if samples is None:
                        raise UnreadableFile(f"{name} ends before frame {index}.", remedy=DAMAGED)
                    shown = as_shown(samples, ds)
                yield shown
    except ImagingError:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"The pixels of {name} cannot be decoded: {said(error)}", remedy=DAMAGED
        ) from None


def decoded_samples(
    path: Path, ds: Dataset, frames: Sequence[int], name: str
) -> Generator[NDArray[Any], None, None]:
    """The frames' samples as stored, colour as RGB, read from the file frame by frame."""
    syntax = syntax_of(ds)
    if syntax == JPEGExtended12Bit and int(ds.get("BitsStored") or 8) > 8:
        yield from iter_twelve_bit(path, ds, frames)
        return
    if syntax in MPEGTransferSyntaxes:
        yield from _video_frames(path, frames, name)
        return
    boxes_end(path)
    with path.open("rb") as file, panics_refused():
        # A deflated data set has no pixels to seek to: it is inflated as a whole.
        source = dcmread(file) if syntax == DeflatedExplicitVRLittleEndian else file
        if syntax in UNENCODED and text_of(ds, "PhotometricInterpretation") == "YBR_FULL_422":
            # pydicom forgets the subsampling after its first frame: ask for each anew.
            for index in frames:
                yield from iter_pixels(source, indices=[index])
        else:
            yield from iter_pixels(source, indices=frames, decoding_plugin=plugin_of(syntax))


def plugin_of(syntax: str) -> str:
    """The decoder that is asked for a transfer syntax; empty: any that there is."""
    return PLUGINS.get(UID(syntax), "")


def boxes_end(path: Path) -> None:
    """Nothing, if the boxes before every JPEG 2000 codestream have lengths that lead on to it.

    Raises UnreadableFile: pydicom walks them, and one of no length keeps it there for ever. PS3.5
    A.4.4 wants no boxes at all, but some writers leave them.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        start = data.find(JP2_SIGNATURE)
        while start >= 0:
            box = start + len(JP2_SIGNATURE) + 4
            while box < len(data) and data[box + 4 : box + 8] != JP2_CODESTREAM:
                length = int.from_bytes(data[box : box + 4], "big")
                if length < JP2_LEAST:
                    raise UnreadableFile(
                        "The pixels are damaged: a JPEG 2000 box has no length.", remedy=DAMAGED
                    )
                box += length
            start = data.find(JP2_SIGNATURE, start + 1)


@contextmanager
def panics_refused() -> Iterator[None]:
    """Turns the panic of a decoder written in Rust, which is no Exception, into UnreadableFile."""
    try:
        yield
    except BaseException as panic:
        if type(panic).__module__ != "pyo3_runtime":
            raise
        raise UnreadableFile(f"The pixels are damaged: {panic}", remedy=DAMAGED) from None


def _video_frames(path: Path, frames: Sequence[int], name: str) -> Iterator[NDArray[np.uint8]]:
    """The RGB frames of an encapsulated video (PS3.5 8.2.5 to 8.2.9)."""
    encapsulated = dcmread(path, specific_tags=["PixelData"]).PixelData
    stream = b"".join(generate_frames(encapsulated, number_of_frames=1))
    with NamedTemporaryFile(suffix=".video") as file:
        file.write(stream)
        file.flush()
        most = max(frames, default=-1) + 1
        for _, colour in iter_video(Path(file.name), frames, name=name, most=most):
            yield colour


def as_shown(raw: NDArray[Any], ds: Dataset) -> GreyImage | ColourImage:
    """Decoded samples (rows, columns[, 3]) as 8-bit grey or RGB, by the header."""
    photometric = (text_of(ds, "PhotometricInterpretation") or "").upper()
    if photometric == "PALETTE COLOR":
        # PS3.3 C.7.6.3.1.5: entries of 16 bits fill 16 bits; some writers leave the upper byte 0.
        colour = apply_color_lut(raw, ds)
        if colour.dtype != np.uint8 and int(colour.max()) > 255:
            colour = colour >> 8
        return colour.astype(np.uint8)
    if raw.ndim == 3:
        if raw.shape[2] < 3:
            raise UnsupportedSyntax(
                f"{raw.shape[2]} samples a pixel are neither grey nor colour.",
                remedy="Export the image as grey or RGB.",
            )
        return _to_8_bits(raw[..., :3], ds)
    grey = _to_8_bits(raw, ds)
    return np.subtract(255, grey, dtype=np.uint8) if photometric == "MONOCHROME1" else grey


def _to_8_bits(raw: NDArray[Any], ds: Dataset) -> NDArray[np.uint8]:
    bits = int(ds.get("BitsStored") or 8)
    signed = int(ds.get("PixelRepresentation") or 0) == 1
    if bits <= 8 and not signed:
        spread = raw if bits == 8 else raw.astype(np.uint16) * 255 // (2**bits - 1)
        return spread.astype(np.uint8)
    values = apply_modality_lut(raw, ds).astype(np.float64)
    low, high = _window(ds) or _span(bits, signed=signed, ds=ds)
    scaled = np.clip((values - low) / (high - low), 0.0, 1.0) * 255.0
    return np.rint(scaled).astype(np.uint8)


def _window(ds: Dataset) -> tuple[float, float] | None:
    """Lowest and highest value of the first linear window (PS3.3 C.11.2.1.2.1), if there is one."""
    centre, width = text_of(ds, "WindowCenter"), text_of(ds, "WindowWidth")
    if centre is None or width is None or float(width) <= 1:
        return None
    middle, half = float(centre) - 0.5, (float(width) - 1.0) / 2.0
    return middle - half, middle + half


def _span(bits: int, *, signed: bool, ds: Dataset) -> tuple[float, float]:
    """What the stored bits can hold, through the rescale slope and intercept."""
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope = float(text_of(ds, "RescaleSlope") or 1.0)
    intercept = float(text_of(ds, "RescaleIntercept") or 0.0)
    ends = sorted((lowest * slope + intercept, highest * slope + intercept))
    return ends[0], ends[1]


def _known(frames: Sequence[int], count: int, name: str) -> list[int]:
    wanted = sorted(set(frames))
    if wanted and (wanted[0] < 0 or wanted[-1] >= count):
        raise UnreadableFile(
            f"{name} has {count} frames (0 to {count - 1}); {wanted[-1]} is not one of them.",
            remedy="Frames are counted from 0; choose one that the file has.",
        )
    return wanted


def _times_s(ds: Dataset, count: int) -> list[float | None]:
    """Seconds from the first frame: Frame Time Vector (0018,1065), else Frame Time (0018,1063)."""
    vector = ds.get("FrameTimeVector")
    if vector is not None and not isinstance(vector, str) and len(vector) == count:
        return [float(t) / 1000.0 for t in np.cumsum([float(v) for v in vector])]
    step = text_of(ds, "FrameTime")
    if step is None:
        return [None] * count
    return [index * float(step) / 1000.0 for index in range(count)]


def syntax_of(ds: Dataset) -> str:
    meta = getattr(ds, "file_meta", None)
    return str(getattr(meta, "TransferSyntaxUID", None) or ImplicitVRLittleEndian)


def check_syntax(ds: Dataset, name: str) -> None:
    """Raises UnsupportedSyntax unless a decoder for the transfer syntax (0002,0010) is at hand."""
    syntax = UID(syntax_of(ds))
    if syntax in MPEGTransferSyntaxes:
        return
    try:
        available = get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        available = False
    if not available:
        raise UnsupportedSyntax(
            f"{name} is encoded as {shown_uid(syntax)}, which is not decoded here.",
            remedy="Send it uncompressed, as JPEG, JPEG-LS, JPEG 2000 or RLE.",
        )


def check_size(ds: Dataset, encoded_bytes: int, name: str, limits: DecodeLimits) -> None:
    """Raises UnreadableFile and TooLarge for a size that is missing, a lie or over the limits.

    `encoded_bytes` is what the file holds from the pixel data (7FE0,0010) on.
    """
    try:
        rows, columns, frames = int(ds.Rows), int(ds.Columns), number_of_frames(ds)
        samples = int(ds.get("SamplesPerPixel") or 1)
        allocated = int(ds.get("BitsAllocated") or 8)
    except (AttributeError, TypeError, ValueError):
        raise UnreadableFile(
            f"{name} has no image: its size is missing or no number.",
            remedy="Send the images of the study, not its reports.",
        ) from None
    if samples not in (1, 3) or allocated not in (1, 8, 16, 32):
        raise UnsupportedSyntax(
            f"{name} has {samples} samples of {allocated} bits a pixel.",
            remedy="Export the image as 8-bit grey or RGB.",
        )
    limits.check_size(
        name,
        rows=rows,
        columns=columns,
        frames=frames,
        bytes_per_pixel=samples * max(1, allocated // 8),
        # A video may show a still picture for minutes: no ratio is held against it.
        encoded_bytes=limits.max_decoded_bytes
        if syntax_of(ds) in MPEGTransferSyntaxes
        else encoded_bytes,
    )
    if syntax_of(ds) not in NATIVE:
        return
    expected = rows * columns * frames * samples * allocated // 8
    if text_of(ds, "PhotometricInterpretation") == "YBR_FULL_422":
        expected = expected * 2 // 3
    if encoded_bytes < expected:
        raise UnreadableFile(
            f"{name} is cut off: {expected} bytes of pixels are missing or short.", remedy=DAMAGED
        )


def check_structure(path: Path, name: str, limits: DecodeLimits) -> None:
    """Raises TooLarge for a data set that would swell or branch beyond the limits when parsed."""
    with path.open("rb") as file:
        # A file without its preamble may have the group all the same, and be deflated.
        read_preamble(file, force=True)
        meta = _read_file_meta_info(file)
    syntax = str(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian)
    begins_at = data_set_at(path)
    if syntax == DeflatedExplicitVRLittleEndian:
        _check_inflated(path, name, begins_at, limits)
    check_shape(path, name, data_set_at=begins_at, transfer_syntax_uid=syntax)


def _check_inflated(path: Path, name: str, begins_at: int, limits: DecodeLimits) -> None:
    """Raises TooLarge for a deflated data set that swells too much, without keeping it."""
    likely = max(SWELLS_FREELY, path.stat().st_size * MAX_SWELLING)
    most = min(limits.max_decoded_bytes, likely)
    with path.open("rb") as file:
        file.seek(begins_at)
        inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while block := inflater.unconsumed_tail or file.read(65_536):
            total += len(inflater.decompress(block, MEBIBYTE))
            if total > most:
                raise TooLarge(
                    f"{name} inflates to more than {most // MEBIBYTE} MiB.",
                    remedy="Send fewer frames, in another transfer syntax.",
                )
            if inflater.eof:
                return


def tolerant() -> warnings.catch_warnings[None]:
    """Silences pydicom's warnings about foreign headers: what matters is checked by name here."""
    return warnings.catch_warnings(action="ignore")
