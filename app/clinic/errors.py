"""What can be wrong with a clinical request or table: one tree, no HTTP numbers.

Each message is for a sonographer: what is wrong, and the way out in `remedy`. `code` is stable
and machine-readable; `field` names the request's field where one is to blame.

    ClinicError
    ├── UnknownMuscle             neither a muscle nor a group of a dose row
    ├── UnknownProduct
    ├── UnknownIndication
    ├── ProductNotForIndication   the product's label has no such indication there
    ├── MissingPatientFact        a child without weight
    ├── InvalidInput              a value that cannot be true
    └── TableError                a table that may not be used
"""

from __future__ import annotations

from typing import ClassVar


class ClinicError(Exception):
    """A request or table that cannot be used, with the way out in `remedy`."""

    code: ClassVar[str] = "clinic_error"

    def __init__(self, message: str, *, remedy: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross the process boundary from a worker: rebuild with the keywords.
        return (_rebuild, (type(self), self.message, self.remedy, self.field))


def _rebuild(kind: type[ClinicError], message: str, remedy: str, field: str | None) -> ClinicError:
    return kind(message, remedy=remedy, field=field)


class UnknownMuscle(ClinicError):
    """The name is neither a muscle nor a group of the tables."""

    code = "unknown_muscle"


class UnknownProduct(ClinicError):
    """The name is none of the products of the tables."""

    code = "unknown_product"


class UnknownIndication(ClinicError):
    """The indication is in no table."""

    code = "unknown_indication"


class ProductNotForIndication(ClinicError):
    """The product's label has no such indication in that jurisdiction."""

    code = "product_not_for_indication"


class MissingPatientFact(ClinicError):
    """A fact of the patient without which no row can be chosen."""

    code = "missing_patient_fact"


class InvalidInput(ClinicError):
    """A value that cannot be true."""

    code = "invalid_input"


class TableError(ClinicError):
    """A clinical table that is broken or lacks a source or grade."""

    code = "table_error"
