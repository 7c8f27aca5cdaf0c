"""Posed-video data sets: readers, frame sampling, checks, and a procedural set for demos."""
