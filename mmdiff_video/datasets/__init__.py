"""Data sets of posed clips and of labelled pictures: cards, file layouts, checks and views."""
