"""Scenes in the browser, and as one page."""
