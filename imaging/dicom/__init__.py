"""DICOM in and out: reading ultrasound, writing segmentations and reports."""
