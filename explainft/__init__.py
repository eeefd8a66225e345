"""explainft: fine-tune T5 to explain, then answer."""

__version__ = "0.1.0"
