"""Posed clips: the contract, cards, checks, and what is sampled from them."""
