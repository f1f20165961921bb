"""STOP words: the phrases by which people ask for no more messages, with a list per language. Pure."""

from stopwords.folding import folded
from stopwords.matching import StopWords, is_courtesy, is_listed

__all__ = ["StopWords", "folded", "is_courtesy", "is_listed"]
