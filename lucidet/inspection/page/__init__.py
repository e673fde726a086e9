"""The page of a trace: drawing, one file of panels for each part of a detector, one HTML file."""
