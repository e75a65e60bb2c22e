"""What goes out of a finished analysis: pictures, reports, objects, tables."""
