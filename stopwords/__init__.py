"""STOP and its like: the words by which people ask not to be written to any more, a list per language. Pure."""

from stopwords.lists import languages
from stopwords.matching import LONGEST, StopWords

__all__ = ["LONGEST", "StopWords", "languages"]
