"""Whether tables and weights are the ones that were released: each by its SHA-256.

`shipped.sha256` is in the form of sha256sum, relative to the folder above the rooms, so that
`sha256sum -c app/shipped.sha256` says the same. It finds what was damaged, cut off or edited in
place; who may rewrite the whole installation can rewrite the list, so an image's signature or a
package's hash has to guard that (docs/security.md).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from app.errors import AppError

HOME = Path(__file__).parent.parent
LIST = Path(__file__).with_name("shipped.sha256")
GUARDED = (
    "app/clinic/data/*.csv",
    "app/clinic/data/*.yaml",
    "imaging/dicom/data/*.csv",
    "models/weights/*.json",
    "models/weights/*.onnx",
    "models/weights/*.safetensors",
)


class Tampered(AppError):
    """A table or the network's weights are not as released."""

    code = "tampered"


def sums() -> str:
    """The list as it must be for the files that are there."""
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HOME).as_posix()}\n"
        for path in sorted(path for pattern in GUARDED for path in HOME.glob(pattern))
    )


def check_shipped() -> int:
    """How many files were looked at, all as released. Raises Tampered with each that is not."""
    is_now, released = _listed(sums()), _listed(LIST.read_text("utf-8"))
    wrong = [
        *(f"{name} is missing" for name in sorted(released.keys() - is_now.keys())),
        *(f"{name} was added" for name in sorted(is_now.keys() - released.keys())),
        *(
            f"{name} was changed"
            for name in sorted(is_now.keys() & released.keys())
            if is_now[name] != released[name]
        ),
    ]
    if wrong:
        raise Tampered(
            f"Tables or weights are not as released: {'; '.join(wrong)}.",
            remedy="Install sonodose again. A site's own doses belong into a folder that "
            "SONODOSE_TABLE_OVERRIDE names; `make sums` lists a release's reviewed change.",
        )
    return len(released)


def _listed(text: str) -> dict[str, str]:
    """File → SHA-256."""
    return {line[66:]: line[:64] for line in text.splitlines()}


if __name__ == "__main__":
    LIST.write_text(sums(), "utf-8")
