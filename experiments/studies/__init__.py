"""What each part adds: trials of teachers, sampling and stitching."""
