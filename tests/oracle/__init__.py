"""Independent answers to the product questions: plain Python over raw events, from the definition of each question."""
