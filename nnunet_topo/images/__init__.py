"""What is read from and written to image files, geometry included."""
