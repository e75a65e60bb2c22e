"""What a file may claim and cost, checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from imaging.errors import TooLarge, UnreadableFile

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """The largest file, frame and clip that will be decoded.

    `max_inflate_ratio` bounds how many decoded bytes a compressed byte may claim: a real codec
    stays far below on ultrasound, a bomb does not.
    """

    max_file_bytes: int = 2048 * MEBIBYTE
    max_rows: int = 8192
    max_columns: int = 8192
    max_frame_pixels: int = 40_000_000
    max_frames: int = 4000
    max_decoded_bytes: int = 4096 * MEBIBYTE
    max_inflate_ratio: float = 2000.0

    def check_file(self, name: str, file_bytes: int) -> None:
        """Raises UnreadableFile for an empty file and TooLarge for one over `max_file_bytes`."""
        if file_bytes == 0:
            raise UnreadableFile(
                f"{name} is empty.", remedy="Export the image again and send the new file."
            )
        if file_bytes > self.max_file_bytes:
            raise TooLarge(
                f"{name} has {file_bytes / MEBIBYTE:.0f} MiB, more than the "
                f"{self.max_file_bytes / MEBIBYTE:.0f} MiB that are allowed.",
                remedy="Send fewer frames, or a compressed transfer syntax.",
            )

    def check_size(
        self,
        name: str,
        *,
        rows: int,
        columns: int,
        frames: int,
        bytes_per_pixel: int,
        encoded_bytes: int,
    ) -> None:
        """Raises UnreadableFile for a size that cannot be, TooLarge for one over the limits."""
        if rows < 1 or columns < 1 or frames < 1:
            raise UnreadableFile(
                f"{name} says it has {rows} rows, {columns} columns and {frames} frames.",
                remedy="The header is damaged: export the image again from the scanner or PACS.",
            )
        if (
            rows > self.max_rows
            or columns > self.max_columns
            or rows * columns > self.max_frame_pixels
            or frames > self.max_frames
        ):
            raise TooLarge(
                f"{name} says it has {frames} frames of {columns}×{rows} pixels, more than the "
                f"{self.max_frames} frames of {self.max_columns}×{self.max_rows} that are allowed.",
                remedy="Send a part of the clip, or an image of the usual size.",
            )
        decoded = rows * columns * frames * bytes_per_pixel
        if decoded > self.max_decoded_bytes:
            raise TooLarge(
                f"{name} would take {decoded / MEBIBYTE:.0f} MiB when decoded, more than the "
                f"{self.max_decoded_bytes / MEBIBYTE:.0f} MiB that are allowed.",
                remedy="Send a shorter part of the clip.",
            )
        if decoded > MEBIBYTE and decoded > encoded_bytes * self.max_inflate_ratio:
            raise TooLarge(
                f"{name} claims {decoded / MEBIBYTE:.0f} MiB of pixels from {encoded_bytes} bytes.",
                remedy="The file is damaged or made to harm: export the image again.",
            )
