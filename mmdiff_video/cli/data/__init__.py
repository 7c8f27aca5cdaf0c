"""List, check and make data sets."""
