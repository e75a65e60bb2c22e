"""The doors: HTTP, DICOMweb, command line and the viewer."""
