"""DICOM in and out: reading ultrasound, writing segmentations and reports."""

import logging
import warnings

# pydicom quotes the values that it finds odd, and a log is no place for what a file says of a
# patient. Refusals say the same in our own words, without the value.
logging.getLogger("pydicom").disabled = True
warnings.filterwarnings("ignore", module=r"pydicom\.")
