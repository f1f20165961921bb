"""STOP and its like: the words by which people ask not to be written to any more, a list per language. Pure."""

from stopwords.matching import languages, stop_word

__all__ = ["languages", "stop_word"]
