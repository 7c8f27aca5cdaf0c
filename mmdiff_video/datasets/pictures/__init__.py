"""Labelled pictures: the contract, cards, checks and views."""
