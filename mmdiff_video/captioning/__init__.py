"""Captions of real pictures and clips by a vision-language model, to prompt the backbone with."""
