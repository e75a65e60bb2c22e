"""Pixels, millimetres and DICOM: no torch, no web, no clinic."""
