"""How outputs become answers: sampling, beam search, text from tokens."""
