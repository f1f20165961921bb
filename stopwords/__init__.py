"""STOP and its like: the words by which people ask not to be written to any more, a list per language. Pure."""

from stopwords.folding import folded
from stopwords.matching import StopWords, is_courtesy, is_listed

__all__ = ["StopWords", "folded", "is_courtesy", "is_listed"]
