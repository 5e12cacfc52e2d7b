"""Labels, regions and their names."""
